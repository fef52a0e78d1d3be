"""The figures that the pages on architecture and failures tell are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from orderflow.core.circuit_breaker import CONTRADICTED_S, REFUSALS_MAX, UNTRIED_EVERY_S
from orderflow.core.consumer import BYTES_MAX, PROBES_KEPT, RECORDS_MAX
from orderflow.core.engine import EngineConfig
from orderflow.core.failures import FAILING_KEYS_MIN, WINDOW_S
from orderflow.core.relay import CLAIM_S
from orderflow.core.retries import PACE_MAX_MS, REST

CONFIG = EngineConfig()
DOCS = Path(__file__).parents[3] / "docs"
PAGES = " ".join(" ".join((DOCS / page).read_text("utf-8").split()) for page in ("architecture.md", "failures.md"))


@pytest.mark.parametrize(
    ("words", "told", "figures"),
    [
        ("at least 8 keys of one event type fail with one fingerprint", (8,), (FAILING_KEYS_MIN,)),
        ("first tried within 10 s", (10.0,), (WINDOW_S,)),
        (
            "If other keys succeed for 30 s and none of those that failed does, it was no outage",
            (30.0,),
            (CONTRADICTED_S,),
        ),
        ("at most 32 such keys a second", (32, 1.0), (REFUSALS_MAX, UNTRIED_EVERY_S)),
        ("The buffer holds 2,000 records or 64 MiB", (2_000, 67_108_864), (RECORDS_MAX, BYTES_MAX)),
        ("all but a hundred of the keys that failed in the outage", (100,), (PROBES_KEPT,)),
        (
            "10,000 keys per consumer and 1,000 events per key",
            (10_000, 1_000),
            (CONFIG.parked_keys_max, CONFIG.parked_depth_max),
        ),
        ("waits with back-off up to 5 s", (5_000,), (CONFIG.infrastructure_ceiling_ms,)),
        ("with back-off and jitter (`core/retries.py`), 6 times", (6,), (CONFIG.attempts_max,)),
        ("for as long as the last one took (20 ms at most)", (20.0,), (CONFIG.pace_max_ms,)),
        ("A relay looks every 2 s", (2.0,), (CLAIM_S,)),
        ("four times as long as its last look took, 500 ms at most", (4.0, 500.0), (REST, PACE_MAX_MS)),
    ],
)
def test_a_figure_that_the_pages_tell_is_that_of_the_code(
    words: str, told: tuple[float, ...], figures: tuple[float, ...]
) -> None:
    assert words in PAGES
    assert figures == told
