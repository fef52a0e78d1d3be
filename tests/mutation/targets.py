"""The code that decides, and the tests that judge it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "orderflow"

JUDGES = ("tests/unit", "tests/simulation/test_outage_in_time.py", "tests/simulation/test_overruling.py")
"""What is run: the unit tests, 500 worlds of the simulator among them, and its tests of an outage in virtual time."""


@dataclass(frozen=True, slots=True)
class Target:
    """A file below `src/orderflow`. `own` are the files below `tests/unit` that are written for it: they go first."""

    file: str
    group: str
    own: tuple[str, ...]

    @property
    def path(self) -> Path:
        return SOURCE / self.file

    @property
    def module(self) -> str:
        return ".".join(("orderflow", *Path(self.file).with_suffix("").parts))

    @property
    def tests(self) -> tuple[str, ...]:
        return tuple(f"tests/unit/{name}" for name in self.own)


SERVICES, PROCESSOR, RETRIES, CANARY, OUTAGE = "services", "processor", "retries", "canary", "outage judge"

_PAYMENT = ("payment/test_model.py", "payment/test_settlement.py")
_INLET = ("messaging/test_inlet.py", "messaging/test_parking.py", "messaging/test_refused_parking.py")
_OUTAGE = ("messaging/test_outage.py", "messaging/test_outage_watch.py", "messaging/test_outage_inlet.py")

TARGETS = (
    Target("order/model.py", SERVICES, ("order/test_model.py", "order/test_flow.py", "order/test_idempotency.py")),
    Target("payment/model.py", SERVICES, _PAYMENT),
    Target("payment/refunds.py", SERVICES, _PAYMENT),
    Target("payment/settlement.py", SERVICES, _PAYMENT),
    Target("inventory/model.py", SERVICES, ("inventory/test_model.py",)),
    Target("notification/model.py", SERVICES, ("notification/test_model.py",)),
    Target("messaging/inlet.py", PROCESSOR, _INLET),
    Target("messaging/fold.py", PROCESSOR, _INLET),
    Target("messaging/parking.py", PROCESSOR, _INLET),
    Target("messaging/handling.py", PROCESSOR, _INLET),
    Target("messaging/notes.py", PROCESSOR, _INLET),
    Target("messaging/suspects.py", PROCESSOR, ("messaging/test_suspects.py",)),
    Target("messaging/decision.py", PROCESSOR, _INLET),
    Target("messaging/machine.py", PROCESSOR, ("order/test_model.py", "payment/test_model.py")),
    Target("messaging/inbox.py", PROCESSOR, _INLET),
    Target("messaging/failures.py", PROCESSOR, _INLET),
    Target("messaging/retry.py", RETRIES, ("messaging/test_retry.py",)),
    Target("messaging/policy.py", RETRIES, ("messaging/test_parking.py",)),
    Target("messaging/retrier.py", RETRIES, ("messaging/test_retrier.py", "messaging/test_parking.py")),
    Target("messaging/patience.py", RETRIES, ("messaging/test_patience.py",)),
    Target(
        "messaging/recovery/canary.py",
        CANARY,
        ("messaging/recovery/test_canary.py", "messaging/recovery/test_replay.py"),
    ),
    Target("messaging/outage.py", OUTAGE, _OUTAGE),
    Target("messaging/outage_watch.py", OUTAGE, _OUTAGE),
    Target("messaging/breaker.py", OUTAGE, _OUTAGE),
    Target("messaging/sifting.py", OUTAGE, _OUTAGE),
    Target("messaging/deferrals.py", OUTAGE, ("messaging/test_deferrals.py", "messaging/test_deferring.py")),
    Target("messaging/crowd.py", OUTAGE, ("messaging/test_deferring.py", "messaging/test_parking.py")),
)
