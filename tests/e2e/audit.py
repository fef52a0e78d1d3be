"""The five promises over a running system, once nothing is under way any more."""

from __future__ import annotations

from orderflow.audit.collect import audited
from orderflow.audit.findings import Report
from orderflow.audit.live import audit
from orderflow.runtime.wiring import connect_transport
from tests.e2e.shop import Shop

REST_TIMEOUT_S = 90.0


async def assert_promises(shop: Shop) -> Report:
    """Wait until the system is at rest, then check every order ever placed on it, and that ours are among them."""
    report = await look(shop, REST_TIMEOUT_S)
    assert report.findings == [], "\n".join(str(finding) for finding in report.findings)
    assert report.at_rest
    assert report.orders >= len(shop.accepted)
    return report


async def look(shop: Shop, wait_s: float = 0.0) -> Report:
    """What an audit of this moment tells."""
    settings = shop.system.settings()
    urls = {name: settings.service_database_url(name) for name in audited()}
    transport = await connect_transport(settings)
    try:
        return await audit(urls, transport, wait_s=wait_s, accepted=list(shop.accepted))
    finally:
        await transport.close()
