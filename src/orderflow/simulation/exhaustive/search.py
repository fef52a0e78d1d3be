"""Goes through every state, breadth first: what is found broken is found by the shortest way there is."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from orderflow.simulation.exhaustive.space import Space, State, StepKind

STATES_MAX = 3_000_000
TOLD_EVERY = 5_000


class Counterexample(msgspec.Struct, frozen=True):
    """How to come to a state in which a promise is broken."""

    steps: Sequence[str]
    broken: Sequence[str]


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a search has seen. `transitions` are steps between states, with those that lead back to where they began;
    `delivered_again` are deliveries that changed nothing, `stored` the things that a service can have stored. `depth`
    is the longest of the shortest ways. Not `whole`: it ended before all states were seen.
    """

    states: int
    transitions: int
    delivered_again: int
    depth: int
    at_rest: int
    ended: int
    stored: int
    seconds: float
    whole: bool
    counterexample: Counterexample | None = None


class _Edges(NamedTuple):
    """Steps between states, by kind of who takes them, as pairs of arrays: from and to."""

    system: tuple[array[int], array[int]]
    others: tuple[array[int], array[int]]


class Search:
    """One search. `told` hears how many states were found, now and then."""

    def __init__(self, space: Space, told: Callable[[int, int], None], states_max: int = STATES_MAX) -> None:
        self._space = space
        self._told = told
        self._states_max = states_max
        self._states: list[State] = []
        self._numbers: dict[State, int] = {}
        self._parents = array("q")
        self._edges = _Edges((array("I"), array("I")), (array("I"), array("I")))
        self._transitions = 0
        self._resting = bytearray()
        self._depths = array("H")

    def run(self) -> SearchResult:
        """Raises nothing: what is broken is in what was found."""
        started = time.perf_counter()
        self._add(self._space.first, -1, 0)
        broken: Counterexample | None = None
        number = 0
        while number < len(self._states) and broken is None and len(self._states) < self._states_max:
            if number % TOLD_EVERY == 0:
                self._told(number, len(self._states))
            broken = self._judge(number) or self._expand(number)
            number += 1
        whole = broken is None and number == len(self._states)
        ended = self._ended() if whole else ()
        if whole:
            broken = self._without_end(ended)
        return SearchResult(
            states=len(self._states),
            transitions=self._transitions,
            delivered_again=self._space.delivered_again,
            depth=max(self._depths),
            at_rest=sum(self._resting),
            ended=len(ended),
            stored=len(self._space.stored),
            seconds=time.perf_counter() - started,
            whole=whole,
            counterexample=broken,
        )

    def _add(self, state: State, parent: int, depth: int) -> int:
        number = self._numbers[state] = len(self._states)
        self._states.append(state)
        self._parents.append(parent)
        self._depths.append(depth)
        self._resting.append(0)
        return number

    def _judge(self, number: int) -> Counterexample | None:
        state = self._states[number]
        at_rest = self._resting[number] = self._space.at_rest(state)
        broken = self._space.broken(state, at_rest=at_rest)
        return self._way_to(number, broken) if broken else None

    def _expand(self, number: int) -> Counterexample | None:
        state, depth = self._states[number], self._depths[number] + 1
        numbers, edges = self._numbers, self._edges
        for move in self._space.moves(state):
            self._transitions += 1
            if move.broken:
                return self._way_to(number, move.broken, move.what)
            after = numbers.get(move.after)
            if after is None:
                after = self._add(move.after, number, depth)
            if after != number and move.kind is not StepKind.FAULT:
                sources, targets = edges.system if move.kind is StepKind.SYSTEM else edges.others
                sources.append(number)
                targets.append(after)
        return None

    def _ended(self) -> Sequence[int]:
        space = self._space
        return [n for n, state in enumerate(self._states) if self._resting[n] and space.has_ended(state)]

    def _without_end(self, ended: Sequence[int]) -> Counterexample | None:
        """The first state from which the system comes to no rest, or nobody can bring the orders to their end."""
        resting = [number for number, rests in enumerate(self._resting) if rests]
        restless = self._first_beyond(self._leading_to(resting, (self._edges.system,)))
        if restless is not None:
            return self._way_to(restless, ["from here the system comes to no rest by itself"])
        reached = self._leading_to(ended, self._edges)
        endless = self._first_beyond(reached, lambda number: not self._space.is_abandoned(self._states[number]))
        if endless is not None:
            return self._way_to(endless, ["from here no order comes to its end, whatever an operator does"])
        return None

    def _leading_to(self, goals: Sequence[int], edges: Sequence[tuple[array[int], array[int]]]) -> bytearray:
        """Which states have a way to one of the goals."""
        before: list[list[int]] = [[] for _ in self._states]
        for sources, targets in edges:
            for source, target in zip(sources, targets, strict=True):
                before[target].append(source)
        reached = bytearray(len(self._states))
        todo = list(goals)
        for number in todo:
            reached[number] = 1
        while todo:
            for source in before[todo.pop()]:
                if not reached[source]:
                    reached[source] = 1
                    todo.append(source)
        return reached

    def _first_beyond(self, reached: bytearray, counts: Callable[[int], bool] = lambda _: True) -> int | None:
        return next((number for number, is_so in enumerate(reached) if not is_so and counts(number)), None)

    def _way_to(self, number: int, broken: Sequence[str], last: str | None = None) -> Counterexample:
        way = [number]
        while self._parents[way[-1]] >= 0:
            way.append(self._parents[way[-1]])
        way.reverse()
        steps = [self._step(before, after) for before, after in pairwise(way)]
        return Counterexample([*steps, last] if last is not None else steps, broken)

    def _step(self, before: int, after: int) -> str:
        wanted = self._states[after]
        return next(move.what for move in self._space.moves(self._states[before]) if move.after == wanted)
