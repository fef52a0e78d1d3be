"""What an operator says of an outage: logged, and followed by every process of the service."""

from __future__ import annotations

import asyncio

import pytest

from orderflow.core.failures import Verdict
from orderflow.core.operations.model import OVERRULE_HOLDS_MS, ConfirmationNeededError, NoSuchConsumerError
from orderflow.core.operations.overruling import LOOK_EVERY_S
from orderflow.core.store import Act
from orderflow.core.telemetry import OutageJudged, OutageOver
from tests.simulation.day import Day
from tests.support.callers import person
from tests.unit.core.toy import Counted

COUNTED = "toy.Counted.v1"
ADA = Act(caller=person("ada"), reason="forged")


def test_poison_by_an_operators_word_is_given_up_in_every_process_and_not_judged_again() -> None:
    day = Day()
    other = day.process()
    day.world.moods.broken |= {f"bad{n}" for n in range(300)}

    async def what() -> None:
        other.start()
        await asyncio.sleep(1)
        await day.burst("bad", 300)
        await day.until(lambda: len(day.world.signals_of(OutageJudged)) == 2, 5)
        await other.overruling.overrule("counter", "Counted", Verdict.POISON, ADA)
        await asyncio.sleep(LOOK_EVERY_S + 0.1)
        assert len(day.world.signals_of(OutageOver)) == 2
        await day.until(lambda: day.are_dead("bad"), 100)
        await other.kill()

    day.live(what)

    assert len(day.world.signals_of(OutageJudged)) == 2
    [action] = day.world.database.state.actions.values()
    assert (action.who, action.action, action.target, action.reason) == (
        "ada",
        "overrule",
        f"counter {COUNTED}",
        "forged",
    )
    assert action.result == f"Failures of {COUNTED} count as poison for 60 minutes."


def test_an_outage_by_an_operators_word_gives_nothing_up_while_others_succeed_until_it_holds_no_longer() -> None:
    day = Day()
    day.world.moods.broken |= {f"bad{n}" for n in range(3)}

    async def what() -> None:
        await day.engine.overruling.overrule("counter", COUNTED, Verdict.OUTAGE, ADA)
        await day.burst("bad", 3)
        await day.stream("fine", rate=0.2, for_s=OVERRULE_HOLDS_MS / 1000 - 30)
        assert day.dead == {}
        assert "an operator declared it an outage" in day.engine.health().problems["consumer counter"]
        await day.stream("later", rate=0.2, for_s=240)
        assert day.are_dead("bad")

    day.live(what)

    assert max(day.delays("fine")) < 1


def test_what_is_judged_and_said_is_listed() -> None:
    day = Day()
    day.world.moods.broken.add(Counted.TYPE)

    async def what() -> None:
        overruling = day.engine.overruling
        assert await overruling.outages() == []
        await overruling.overrule("counter", "toy.Opened", Verdict.OUTAGE, ADA)
        await day.burst("bad", 20)
        await asyncio.sleep(1)

        judged, said = await overruling.outages()
        assert (judged.event_type, judged.overrule) == (COUNTED, None)
        assert judged.standing is not None
        assert judged.standing.evidence.failing == 20
        assert (said.event_type, said.standing) == ("toy.Opened.v1", None)
        assert said.overrule is not None
        assert (said.overrule.verdict, said.overrule.who) == (Verdict.OUTAGE, "ada")

    day.live(what)


@pytest.mark.parametrize(
    ("consumer", "event_type", "act", "error", "said"),
    [
        ("count", "Counted", ADA, NoSuchConsumerError, "counter has no consumer 'count', only counter"),
        ("counter", "Count", ADA, NoSuchConsumerError, "no event 'Count', only Asked, Counted, Opened, Said"),
        ("counter", "Noticed", ADA, NoSuchConsumerError, "handles no event 'Noticed'"),
        ("counter", "Counted", Act(caller=person("ada"), reason=" "), ConfirmationNeededError, "give a reason"),
    ],
)
def test_what_makes_no_sense_is_refused(
    consumer: str, event_type: str, act: Act, error: type[Exception], said: str
) -> None:
    day = Day()

    async def what() -> None:
        with pytest.raises(error, match=said):
            await day.engine.overruling.overrule(consumer, event_type, Verdict.POISON, act)
        assert day.world.database.state.actions == {}

    day.live(what)
