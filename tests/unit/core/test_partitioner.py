from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.identity import Partitioner, murmur2


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        # org.apache.kafka.common.utils.UtilsTest.testMurmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_the_one_of_kafkas_own_test(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


@given(st.binary(max_size=64), st.integers(1, 1000))
def test_a_key_always_goes_to_the_same_partition_that_exists(key: bytes, partitions: int) -> None:
    first = Partitioner(random.Random(1)).partition(key, partitions)
    assert first == Partitioner(random.Random(2)).partition(key, partitions)
    assert 0 <= first < partitions


def test_records_without_a_key_are_spread_by_the_chance_that_was_given() -> None:
    one, two = (Partitioner(random.Random(7)) for _ in range(2))
    places = [one.partition(None, 6) for _ in range(600)]
    assert places == [two.partition(None, 6) for _ in range(600)]
    assert min(Counter(places).values()) > 50


def test_an_empty_key_is_a_key() -> None:
    partitioner = Partitioner(random.Random(1))
    assert len({partitioner.partition(b"", 100) for _ in range(50)}) == 1
