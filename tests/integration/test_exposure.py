"""Beyond loopback there is no anonymous door, and TLS is what both doors speak: a whole service, real sockets."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import json
import re
import shutil
from pathlib import Path

import httpx2
import pytest

from orderflow.access.tokens import TokensFile
from orderflow.cli.http import ClientTls, ServiceClient
from orderflow.core.access import Role
from orderflow.http.gate import RATE_BEYOND_LOOPBACK
from orderflow.local.authority import CERTIFICATE_DAYS, Authority, Issued
from orderflow.runtime import exposure
from orderflow.runtime.process import ProcessExit, run_service
from orderflow.settings import Settings
from tests.support.sample.running import migrate, running, settings
from tests.support.sample.service import SERVICE
from tests.support.waiting import eventually

EVERYWHERE = "0.0.0.0"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def secured(authority: Authority, tmp_path: Path) -> dict[str, object]:
    """Settings for TLS."""
    place(authority.issue("service"), tmp_path)
    return {"tls_certificate_file": tmp_path / "tls.pem", "tls_key_file": tmp_path / "tls.key"}


def place(issued: Issued, folder: Path) -> None:
    shutil.copy(issued.certificate, folder / "tls.pem")
    shutil.copy(issued.key, folder / "tls.key")


def make_token(wanted: Settings) -> str:
    _, text = TokensFile(wanted.tokens_path).create("till", frozenset({Role.OPERATOR}))
    return text


@pytest.mark.parametrize("which", ["host", "ops_host"])
async def test_without_tokens_and_tls_it_does_not_listen_where_others_reach_it(
    which: str, tmp_path: Path, secured: dict[str, object], capfd: pytest.CaptureFixture[str]
) -> None:
    url = "postgresql://nobody@127.0.0.1:1/none"
    bare = settings(url, tmp_path, **{which: EVERYWHERE})
    assert await run_service(SERVICE, bare) == ProcessExit.SETTINGS
    said = capfd.readouterr().err
    assert said.startswith(f"ORDERFLOW_{which.upper()} is 0.0.0.0, which other machines can reach, but ")
    assert "there is no TLS (set ORDERFLOW_TLS_CERTIFICATE_FILE and ORDERFLOW_TLS_KEY_FILE)" in said
    assert "there is no token (create one with `orderflow token create`" in said
    assert "ORDERFLOW_INSECURE=yes" in said
    assert said.count("\n") == 1

    assert (
        await run_service(SERVICE, settings(url, tmp_path, **secured, **{which: EVERYWHERE})) == ProcessExit.SETTINGS
    )
    assert "there is no TLS" not in (said := capfd.readouterr().err)
    assert "there is no token" in said

    make_token(bare)
    assert await run_service(SERVICE, bare) == ProcessExit.SETTINGS
    assert "there is no TLS" in (said := capfd.readouterr().err)
    assert "there is no token" not in said


async def test_with_tokens_and_tls_it_listens_everywhere_and_lets_nobody_in_without_a_token(
    database_url: str, tmp_path: Path, secured: dict[str, object], authority: Authority
) -> None:
    await migrate(database_url)
    wanted = settings(database_url, tmp_path, host=EVERYWHERE, **secured)
    token = make_token(wanted)
    async with running(wanted) as service:
        url = wanted.address(EVERYWHERE, service.port)
        assert url == f"https://127.0.0.1:{service.port}"
        tls = ClientTls(ca=authority.certificate)
        async with httpx2.AsyncClient(base_url=url, verify=tls.context(), trust_env=False) as stranger:
            assert (await stranger.get("/counters/a")).status_code == 401
            shown = {"authorization": f"Bearer {token}"}
            assert (await stranger.get("/counters/a", headers=shown)).status_code == 404
        assert (await service.client.get("/health/ready")).json().get("alarms", {}) == {}
        metrics = (await service.client.get("/metrics")).text
        for what in ("token_rate", "address_rate"):
            assert f'orderflow_http_limit{{door="public",limit="{what}"}} {RATE_BEYOND_LOOPBACK}.0' in metrics
            assert f'door="ops",limit="{what}"' not in metrics


async def test_who_says_insecure_is_warned_for_as_long_as_it_runs(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposure, "INSIST_EVERY_S", 0.02)
    await migrate(database_url)
    wanted = settings(database_url, tmp_path, host=EVERYWHERE, insecure=True)

    def warnings() -> list[dict[str, str]]:
        lines = [json.loads(line) for line in (wanted.log_file or tmp_path).read_text().splitlines()]
        return [line for line in lines if line["action"] == "insecure"]

    async with running(wanted) as service:
        await eventually(
            lambda: len(warnings()) >= 3 or any("times" in str(line) for line in warnings()), timeout_s=60
        )
        ready = await service.client.get("/health/ready")
    assert ready.status_code == 200
    assert "without a token" in ready.json()["alarms"]["insecure"]
    assert "there is no TLS" in ready.json()["alarms"]["insecure"]
    assert warnings()[0]["level"] == "warning"
    assert "ORDERFLOW_HOST is 0.0.0.0" in warnings()[0]["detail"]


async def test_operators_show_a_certificate_where_one_is_wanted_and_clients_do_not(
    database_url: str, tmp_path: Path, secured: dict[str, object], authority: Authority
) -> None:
    await migrate(database_url)
    wanted = settings(database_url, tmp_path, **secured, tls_client_ca_file=authority.certificate)
    operator = authority.issue("operator")
    bare = ClientTls(ca=authority.certificate)
    known = dataclasses.replace(bare, certificate=operator.certificate, key=operator.key)
    async with running(wanted) as service:
        ops_port = service.ops_port
        async with httpx2.AsyncClient(verify=bare.context(), trust_env=False) as stranger:
            assert (await stranger.get(f"https://localhost:{service.port}/counters/a")).status_code == 404
            with pytest.raises(httpx2.TransportError):
                await stranger.get(f"https://localhost:{ops_port}/health/ready")
        async with httpx2.AsyncClient(verify=known.context(), trust_env=False) as ours:
            assert (await ours.get(f"https://localhost:{ops_port}/health/ready")).status_code == 200


async def test_the_command_line_verifies_by_the_authority_that_it_is_told(
    database_url: str, tmp_path: Path, secured: dict[str, object], authority: Authority
) -> None:
    await migrate(database_url)
    wanted = settings(database_url, tmp_path, **secured)
    async with running(wanted) as service:
        url = f"https://127.0.0.1:{service.port}"

        def asked(tls: ClientTls | None) -> str:
            with ServiceClient("order", url, tls=tls) as client:
                try:
                    return str(client.get("/counters/a"))
                except Exception as error:  # noqa: BLE001  # its words are looked at
                    return f"{type(error).__name__}: {error}"

        assert "NotFoundError" in await asyncio.to_thread(asked, ClientTls(ca=authority.certificate))
        refused = await asyncio.to_thread(asked, None)
        assert "UnreachableError" in refused
        assert "ORDERFLOW_TLS_CA_FILE" in refused


async def test_a_certificate_that_is_replaced_by_rubbish_is_told_and_does_no_harm(
    database_url: str, tmp_path: Path, secured: dict[str, object]
) -> None:
    await migrate(database_url)
    async with running(settings(database_url, tmp_path, **secured)) as service:
        (tmp_path / "tls.pem").write_text("rubbish")

        async def told() -> bool:
            alarms = (await service.client.get("/health/ready")).json().get("alarms", {})
            metrics = (await service.client.get("/metrics")).text
            in_use = "the previous certificate is still in use"
            return in_use in alarms.get("tls", "") and 'orderflow_alarm{alarm="tls"} 1.0' in metrics

        await eventually(told, timeout_s=60)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"tls_key_file": None}, "ORDERFLOW_TLS_CERTIFICATE_FILE and ORDERFLOW_TLS_KEY_FILE go together"),
        ({"tls_key_file": "/no/such/key"}, "no TLS: /no/such/key cannot be read: No such file"),
        ({"tls_client_ca_file": "/no/such/ca"}, "no TLS: /no/such/ca cannot be read: No such file"),
    ],
)
async def test_wrong_files_are_one_sentence(
    given: dict[str, object],
    sentence: str,
    tmp_path: Path,
    secured: dict[str, object],
    capfd: pytest.CaptureFixture[str],
) -> None:
    wrong = settings("postgresql://nobody@127.0.0.1:1/none", tmp_path, **{**secured, **given})
    assert await run_service(SERVICE, wrong) == ProcessExit.SETTINGS
    said = capfd.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


async def test_a_certificate_that_ends_soon_is_told_until_its_successor_is_there(
    database_url: str, tmp_path: Path
) -> None:
    await migrate(database_url)
    days_before = dt.timedelta(days=CERTIFICATE_DAYS - 3)
    early = Authority(tmp_path / "authority", now=lambda: dt.datetime.now(dt.UTC) - days_before)
    files = {"tls_certificate_file": tmp_path / "tls.pem", "tls_key_file": tmp_path / "tls.key"}
    place(early.issue("service"), tmp_path)
    wanted = settings(database_url, tmp_path, **files)
    async with running(wanted) as service:

        async def alarm() -> str:
            found: str = (await service.client.get("/health/ready")).json().get("alarms", {}).get("tls_expiry", "")
            return found

        async def metrics() -> str:
            return (await service.client.get("/metrics")).text

        def lines(action: str) -> list[dict[str, str]]:
            text = (wanted.log_file or tmp_path).read_text()
            return [line for line in map(json.loads, text.splitlines()) if line["action"] == action]

        said = await alarm()
        assert f"{tmp_path / 'tls.pem'} ends at " in said
        assert "in 2 days. Put its successor into that file" in said
        assert f"the successor's key into {tmp_path / 'tls.key'}" in said
        until = re.compile(r'^orderflow_tls_expiry_timestamp_seconds\{door="public"\} (\S+)$', re.MULTILINE)
        [before] = until.findall(await metrics())

        async def is_told() -> bool:
            return 'orderflow_alarm{alarm="tls_expiry"} 1.0' in await metrics()

        await eventually(is_told, timeout_s=60)
        [line] = lines("alarm-raised")
        assert (line["level"], line["alarm"]) == ("error", "tls_expiry")
        assert said in json.dumps(line, ensure_ascii=False)

        place(Authority(tmp_path / "authority").issue("successor"), tmp_path)

        async def is_over() -> bool:
            return not await alarm() and 'alarm="tls_expiry"' not in await metrics()

        await eventually(is_over, timeout_s=60)
        [after] = until.findall(await metrics())
        assert float(after) - float(before) > 300 * 86_400
        assert len(lines("alarm-cleared")) == 1
