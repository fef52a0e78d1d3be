"""The faults reach everything that they are meant to reach."""

from __future__ import annotations

from orderflow.simulation.plan import STEPS, ProcessFault, Trouble, draw
from orderflow.simulation.run import run

SEEDS_MAX = 3_000


def test_processes_crash_fail_and_are_late_at_every_step() -> None:
    """Worlds that have their faults mostly there are looked at, so that a few hundred are enough."""
    plans = [draw(seed) for seed in range(20 * SEEDS_MAX)]
    for step in STEPS:
        wanted = {f"{fault} at {step}" for fault in ProcessFault}
        for plan in (each for each in plans if each.focus == step):
            wanted -= {what for _, _, what in run(plan.seed).trace.steps}
            if not wanted:
                break
        assert not wanted


def test_every_trouble_comes_and_every_outcome_is_reached() -> None:
    wanted = {str(trouble) for trouble in Trouble} | {"COMPLETED", "FAILED", "a key reopened", "two of a service"}
    for seed in range(SEEDS_MAX):
        result = run(seed)
        wanted -= set(map(str, result.plan.troubles)) | set(result.report.statuses)
        if any(what.startswith("reopens") for _, _, what in result.trace.steps):
            wanted.discard("a key reopened")
        if 2 in result.plan.processes.values():
            wanted.discard("two of a service")
        if not wanted:
            return
    raise AssertionError(f"not within {SEEDS_MAX} seeds: {sorted(wanted)}")
