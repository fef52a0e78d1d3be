"""A state machine as data: what is read from its table."""

from __future__ import annotations

import pytest

from orderflow.core.service import IllegalTransitionError, StateMachine

DOOR = StateMachine(
    name="doors",
    initial="shut",
    created_by="Built",
    transitions={("shut", "Opened"): "open", ("open", "Shut"): "shut", ("open", "Torn"): "gone"},
)


def test_the_state_that_follows_is_that_of_the_table() -> None:
    assert [DOOR.after("shut", "Opened"), DOOR.after("open", "Torn")] == ["open", "gone"]


def test_what_the_table_does_not_name_cannot_happen() -> None:
    with pytest.raises(IllegalTransitionError, match=r"^doors: Opened cannot happen in state gone$") as illegal:
        DOOR.after("gone", "Opened")
    assert (illegal.value.machine, illegal.value.state, illegal.value.event) == ("doors", "gone", "Opened")


def test_states_and_events_are_told_once_in_the_order_in_which_they_are_named() -> None:
    assert DOOR.states() == ("shut", "open", "gone")
    assert DOOR.events() == ("Opened", "Shut", "Torn")
    assert DOOR.final_states() == ("gone",)


def test_a_state_that_nothing_leads_to_is_one_all_the_same() -> None:
    machine = StateMachine(name="m", initial="a", created_by="x", transitions={("lost", "Found"): "a"})
    assert machine.states() == ("a", "lost")


def test_the_database_gets_a_row_for_each_transition() -> None:
    assert list(DOOR.rows()) == [
        ("doors", "shut", "Opened", "open"),
        ("doors", "open", "Shut", "shut"),
        ("doors", "open", "Torn", "gone"),
    ]


def test_a_machine_that_never_moves_has_its_first_state_only() -> None:
    still = StateMachine(name="stones", initial="here", created_by="Found", transitions={})
    assert (still.states(), still.final_states()) == (("here",), ("here",))
