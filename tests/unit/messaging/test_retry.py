"""When to try again."""

from __future__ import annotations

import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.messaging.retry import Backoff, RetryPolicy
from tests.support.chance import Drawn

backoffs = st.builds(lambda first, times: Backoff(first, first * times), st.integers(1, 5_000), st.integers(1, 1_000))


@given(backoff=backoffs, attempt=st.integers(1, 10_000), seed=st.integers())
def test_a_delay_lies_in_the_upper_half_of_what_the_attempt_allows(backoff: Backoff, attempt: int, seed: int) -> None:
    full = min(backoff.ceiling_ms, backoff.first_ms * 2.0 ** min(attempt - 1, 40))

    delay = backoff.delay_ms(attempt, random.Random(seed))

    assert full / 2 - 1 <= delay <= full + 1


@given(attempt=st.integers(1, 12), seed=st.integers())
def test_the_mean_of_the_delays_is_three_quarters_of_what_the_attempt_allows(attempt: int, seed: int) -> None:
    chance = random.Random(seed)
    backoff = Backoff(200, 20_000)

    mean = fmean(backoff.delay_ms(attempt, chance) for _ in range(2_000))

    assert abs(mean / min(20_000, 200 * 2 ** (attempt - 1)) - 0.75) < 0.03


@pytest.mark.parametrize(
    ("attempt", "chance", "delay_ms"),
    [
        (1, 0.0, 100),
        (1, 0.5, 150),
        (1, 0.999, 200),
        (2, 0.0, 200),
        (7, 0.0, 6_400),
        (8, 0.0, 10_000),
        (8, 0.999, 19_990),
    ],
)
def test_a_delay_doubles_up_to_the_ceiling_and_lies_where_chance_puts_it(
    attempt: int, chance: float, delay_ms: int
) -> None:
    assert Backoff(200, 20_000).delay_ms(attempt, Drawn(chance)) == delay_ms


def test_the_longest_delay_is_one_of_the_ceiling_however_small_the_first() -> None:
    assert Backoff(1, 20_000).longest_ms(Drawn(0.0)) == 10_000


def test_a_message_that_is_tried_again_waits_as_long_as_the_back_off_says() -> None:
    assert RetryPolicy(Backoff(200, 20_000), 6).again_in_ms(3, Drawn(0.0)) == 400


@given(attempts=st.integers(1, 20), attempts_max=st.integers(1, 20))
def test_a_message_is_given_up_after_its_last_attempt(attempts: int, attempts_max: int) -> None:
    policy = RetryPolicy(Backoff(1, 1), attempts_max)

    gives_up = policy.again_in_ms(attempts, random.Random(1)) is None

    assert gives_up == (attempts >= attempts_max)
