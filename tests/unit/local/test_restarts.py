from __future__ import annotations

import pytest

from orderflow.local.supervisor import restart_delay_s


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 0.0), (2, 0.5), (3, 1.0), (4, 2.0), (5, 4.0), (6, 8.0), (7, 10.0), (500, 10.0)]
)
def test_the_first_restart_is_at_once_then_the_pause_doubles_up_to_ten_seconds(failures: int, seconds: float) -> None:
    assert restart_delay_s(failures) == seconds
