"""At rest nothing polls but one look a process; and what others have left is found by it, in a few seconds."""

from __future__ import annotations

from collections import Counter

from orderflow.core.progress import EXPIRED_EVERY_S, LOOK_AGAIN_S, LOOK_S
from orderflow.core.relay import CLAIM_S, MARK_S
from orderflow.core.testing.state import StoredIntent as AskedRow
from tests.support.interleaving import soon, virtually
from tests.unit.core.test_progress import Rig, counted, healthy, running
from tests.unit.core.test_side_effects import ScriptedGateway
from tests.unit.core.toy import Asked, Counted

FOUND_WITHIN_S = LOOK_S + LOOK_AGAIN_S
MINUTE_S = 60.0


def asked_of_the_store(rig: Rig) -> Counter[str]:
    """What is asked from now on, by step."""
    gate, steps = rig.world.database.gate, Counter[str]()

    async def counting(name: str) -> None:
        steps[name] += 1
        await gate(name)

    rig.world.database.gate = counting
    return steps


@virtually
async def test_at_rest_a_process_claims_its_slots_and_looks_once_for_all_that_can_be_due() -> None:
    async with running(ScriptedGateway("yes")) as rig:
        rig.publish(*counted(3))
        await healthy(rig, 3)
        await rig.pass_s(MINUTE_S)
        steps = asked_of_the_store(rig)

        await rig.pass_s(MINUTE_S)

        assert steps.keys() == {"claim_slots", "read"}
        assert steps["claim_slots"] <= MINUTE_S / CLAIM_S + 1
        # The purge is once a minute, and is a step too.
        assert steps["read"] <= MINUTE_S / LOOK_S + MINUTE_S / EXPIRED_EVERY_S + 2


@virtually
async def test_rows_of_another_process_that_has_said_nothing_are_published() -> None:
    async with running() as rig:
        await rig.world.admit(Counted(name="k", amount=1))
        assert rig.log.ends(["totals"]) == {("totals", 0): (0, 0)}

        await soon(
            lambda: rig.log.ends(["totals"]) == {("totals", 0): (0, 1)},
            lambda: rig.world.database.state.pending,
            timeout_s=FOUND_WITHIN_S,
        )


@virtually
async def test_what_was_published_is_marked_by_itself_soon_after() -> None:
    async with running() as rig:
        rig.publish(*counted(3))
        await healthy(rig, 3)
        await soon(lambda: rig.log.ends(["totals"]) == {("totals", 0): (0, 3)}, lambda: rig.problems, timeout_s=1)

        await soon(
            lambda: not rig.world.database.state.pending,
            lambda: rig.world.database.state.pending,
            timeout_s=MARK_S + 0.1,
        )


@virtually
async def test_what_another_process_has_parked_is_tried_when_it_is_due() -> None:
    async with running() as rig:
        await rig.world.processor.hold("counter", [rig.world.read(Counted(name="k", amount=1))])

        await soon(lambda: rig.done == 1, rig.world.parked, timeout_s=FOUND_WITHIN_S)


@virtually
async def test_an_intent_that_a_dead_process_has_left_is_asked_when_its_lease_is_over() -> None:
    gateway = ScriptedGateway("yes")
    async with running(gateway) as rig:
        await rig.world.admit(Asked(name="k"))
        intents = rig.world.database.state.intents
        ((key, left),) = intents.items()
        intents[key] = AskedRow(left.intent, rig.clock.wall_ms(), left.created_at)

        await soon(lambda: not intents, lambda: intents, timeout_s=FOUND_WITHIN_S)
