"""Plans have names, relatives are worlds like others, and steering goes where few have been."""

from __future__ import annotations

from orderflow.simulation.loop import seeded
from orderflow.simulation.plan import draw, name_of, plan_of
from orderflow.simulation.run import run_plan
from orderflow.simulation.survey import Steering, relative

WORLDS = 60


def test_every_plan_has_a_name_that_leads_back_to_it() -> None:
    rng = seeded(1, "relatives")
    for seed in range(200):
        plan = draw(seed)
        assert name_of(plan) == str(seed)
        for _ in range(5):
            plan = relative(plan, rng)
            assert plan_of(name_of(plan)) == plan


def test_the_same_start_and_the_same_answers_give_the_same_worlds() -> None:
    first, second = _named(Steering(4)), _named(Steering(4))
    assert first == second
    assert first != _named(Steering(5))


def test_relatives_keep_all_promises_and_are_lived_again_by_their_names() -> None:
    rng = seeded(2, "relatives")
    for seed in range(WORLDS):
        plan = relative(draw(seed), rng)
        lived = run_plan(plan)
        assert not lived.broken, lived.explain()
        if seed % 10 == 0:
            assert run_plan(plan_of(name_of(plan))).trace.digest() == lived.trace.digest()


def test_relatives_of_what_is_rare_are_chosen_and_not_of_what_is_common() -> None:
    steering = Steering(0, fresh_share=0.0)
    common, rare = draw(1), draw(2)
    for _ in range(30):
        steering.learn(common, {"often"})
    steering.learn(rare, {"once"})
    assert {steering.next().base for _ in range(30)} == {2}


def _named(steering: Steering) -> list[str]:
    named = []
    for number in range(50):
        plan = steering.next()
        named.append(name_of(plan))
        steering.learn(plan, {f"happening {number % 7}", f"focus {plan.focus}"})
    return named
