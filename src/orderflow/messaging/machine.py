"""A state machine as data: the table by which code decides is the table that the database enforces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orderflow.messaging.failures import FinalError


class IllegalTransitionError(FinalError):
    """The event cannot happen in this state, now or later."""

    def __init__(self, machine: str, state: str, event: str) -> None:
        super().__init__(f"{machine}: {event} cannot happen in state {state}")
        self.machine = machine
        self.state = state
        self.event = event


@dataclass(frozen=True, slots=True)
class StateMachine:
    """`transitions` maps (state, event) to the next state. `name` is the table whose rows have the states.

    A row starts in `initial`, brought about by the event `created_by`.
    """

    name: str
    initial: str
    created_by: str
    transitions: Mapping[tuple[str, str], str]

    def after(self, state: str, event: str) -> str:
        """The state that follows. Raises IllegalTransitionError."""
        following = self.transitions.get((state, event))
        if following is None:
            raise IllegalTransitionError(self.name, state, event)
        return following

    def states(self) -> tuple[str, ...]:
        """Every state, in the order in which they are first named."""
        named = [self.initial]
        for (before, _), after in self.transitions.items():
            named += (before, after)
        return tuple(dict.fromkeys(named))

    def events(self) -> tuple[str, ...]:
        """Every event that moves it, in the order in which they are first named."""
        return tuple(dict.fromkeys(event for _, event in self.transitions))

    def final_states(self) -> tuple[str, ...]:
        """The states that nothing leaves."""
        left = {before for before, _ in self.transitions}
        return tuple(state for state in self.states() if state not in left)

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """The table as the database holds it: (machine, state, event, next state)."""
        for (before, event), after in self.transitions.items():
            yield (self.name, before, event, after)
