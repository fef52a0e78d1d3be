"""The code that decides, and the tests that judge it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "orderflow"

ALL_JUDGES = ("tests/unit", "tests/simulation/test_outage_in_time.py", "tests/simulation/test_overruling.py")
"""The unit tests, worlds of the simulator among them, and its tests of an outage in virtual time."""


@dataclass(frozen=True, slots=True)
class Target:
    """A file below `src/orderflow`, or `only` some of its classes, functions and constants. `own` are the files below
    `tests/unit` that judge it, the quick ones first.
    """

    file: str
    group: str
    own: tuple[str, ...]
    only: tuple[str, ...] = ()

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

_STORED = "test_statements.py"
_PAYMENT = (
    "test_statements.py",
    "payment/test_model.py",
    "payment/test_settlement.py",
    "payment/test_restatement.py",
    "test_trusted_fields.py",
)
_ORDER = (
    "test_statements.py",
    "order/test_model.py",
    "order/test_flow.py",
    "order/test_idempotency.py",
    "order/test_restatement.py",
)
_ALL = (
    "core/test_batch_handler.py",
    "core/test_bisecting.py",
    "core/test_retrier.py",
    "core/test_paused_records.py",
    "core/test_retry.py",
    "core/test_circuit_breaker.py",
    "core/test_figures.py",
    "core/test_handling.py",
    "core/test_failures.py",
    "core/test_readable_again.py",
    "core/test_circuit_breakers.py",
    "core/test_refused_parking.py",
    "core/recovery/test_discarding.py",
    "core/test_side_effects.py",
    "core/test_parking.py",
    "core/recovery/test_rehearsal.py",
    "core/recovery/test_editing.py",
    "core/test_outage_processor.py",
    "core/test_trial_history.py",
    "core/test_deferring.py",
    "core/test_processor.py",
)


def _core(*first: str) -> tuple[str, ...]:
    """The tests of the core's heart: these first, since they are written for the file."""
    named = tuple(f"core/test_{name}.py" for name in first)
    return (*named, *(name for name in _ALL if name not in named))


TARGETS = (
    Target("services/order/model.py", SERVICES, _ORDER),
    Target("services/payment/model.py", SERVICES, _PAYMENT),
    Target(
        "services/inventory/model.py",
        SERVICES,
        ("inventory/test_model.py", "inventory/test_releasing.py", "test_trusted_fields.py", _STORED),
    ),
    Target("services/notification/model.py", SERVICES, ("notification/test_model.py", _STORED)),
    Target(
        "core/processor.py",
        PROCESSOR,
        (
            *_core("processor", "bisecting", "outage_processor", "refused_parking"),
            "core/recovery/test_repairing.py",
        ),
        (
            "EmptySnapshots",
            "Processor",
            "open_within",
            "_may_be_judged",
            "reopened",
            "culprits",
            "implicated",
            "bisected",
        ),
    ),
    Target(
        "core/decisions.py",
        PROCESSOR,
        _core("batch_handler", "parking_quota", "processor", "parking", "side_effects", "handling"),
        (
            "BatchHandler",
            "Parking",
            "ParkingQuota",
            "is_ignored",
            "handler_of",
            "encoded",
            "attempts_of",
            "intent_of",
            "mark",
            "finish",
            "release",
            "close_intent",
        ),
    ),
    Target(
        "core/service.py",
        PROCESSOR,
        (
            "core/test_machine.py",
            *_core("rows", "handles", "failures", "batch_handler", "processor"),
            *_ORDER,
            *_PAYMENT,
        ),
    ),
    Target("core/inbox.py", PROCESSOR, _core("failures", "parking")),
    Target("core/retry.py", RETRIES, ("core/test_retry.py",)),
    Target("core/retries.py", RETRIES, _core("retrier", "parking")),
    Target(
        "core/operations/replay.py",
        CANARY,
        ("core/recovery/test_canary.py", "core/recovery/test_replay.py"),
        (
            "UNDER_WAY_MAX",
            "SEND_MIN",
            "FIRST_STEPS",
            "next_step",
            "since",
            "step_size",
            "_rest_of_step",
            "_sent",
            "_gate",
        ),
    ),
    Target(
        "core/failures.py",
        OUTAGE,
        _core("failures", "trial_history", "redaction", "parking"),
        (
            "MESSAGE_MAX",
            "READ_MAX",
            "FAILING_KEYS_MIN",
            "WINDOW_S",
            "TRIALS_MAX",
            "REMEMBERED_S",
            "FAILING_MAX",
            "describe",
            "_said",
            "shown",
            "_kind",
            "_first_own_frame",
            "_file",
            "_digest",
            "Verdict",
            "Trial",
            "Failing",
            "Evidence",
            "TrialHistory",
        ),
    ),
    Target("core/circuit_breaker.py", OUTAGE, _core("circuit_breaker", "circuit_breakers", "outage_processor")),
    Target("core/consumer.py", OUTAGE, _core("paused_records", "deferring"), ("PausedRecords",)),
)
