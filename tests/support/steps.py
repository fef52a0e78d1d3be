"""Counts what a computation costs in steps, which are the same on every machine however busy it is."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import Any

op: Any = import_module("re._constants")
parser: Any = import_module("re._parser")

Test = Callable[[str], bool]
"""Whether one character fits."""


def lines_run(call: Callable[[], object]) -> int:
    """How many lines of Python run while `call` does."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


class Backtracker:
    """A regular expression, matched by the backtracking that `re` does, with every step counted.

    It reads the parse tree of `re` itself and knows what this project's patterns use; anything else raises
    NotImplementedError. Each instruction is a tuple whose first member says what it does.
    """

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.steps = 0
        self._flags = pattern.flags
        self._program: list[tuple[Any, ...]] = []
        self._compile(parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE))
        self._emit("match")

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where `re.finditer` finds matches, as long as none of them is empty."""
        found: list[tuple[int, int]] = []
        start = 0
        while start <= len(text):
            end = self._run(0, text, start)
            if end is None:
                start += 1
            else:
                found.append((start, end))
                start = end
        return found

    def _emit(self, *instruction: Any) -> int:
        self._program.append(instruction)
        return len(self._program) - 1

    def _compile(self, tree: Any) -> None:
        for name, argument in tree:
            if name is op.SUBPATTERN:
                self._compile(argument[3])
            elif name is op.MAX_REPEAT:
                self._repeat(*argument)
            elif name is op.BRANCH:
                self._branch(argument[1])
            elif name is op.AT:
                self._emit("at", argument)
            elif name in (op.ASSERT, op.ASSERT_NOT):
                self._look(name is op.ASSERT, *argument)
            else:
                self._emit("one", self._one(name, argument))

    def _repeat(self, least: int, most: Any, body: Any) -> None:
        for _ in range(least):
            self._compile(body)
        if most is op.MAXREPEAT:
            split = self._emit("split", None)
            self._compile(body)
            self._emit("jump", split)
            self._program[split] = ("split", len(self._program))
            return
        splits = []
        for _ in range(most - least):
            splits.append(self._emit("split", None))
            self._compile(body)
        for split in splits:
            self._program[split] = ("split", len(self._program))

    def _branch(self, ways: Any) -> None:
        jumps = []
        for way in ways:
            split = self._emit("split", None)
            self._compile(way)
            jumps.append(self._emit("jump", None))
            self._program[split] = ("split", len(self._program))
        self._emit("fail")
        for jump in jumps:
            self._program[jump] = ("jump", len(self._program))

    def _look(self, wanted: bool, direction: int, body: Any) -> None:
        look = self._emit("look", None)
        self._compile(body)
        self._emit("match")
        back = body.getwidth()[0] if direction < 0 else 0
        self._program[look] = ("look", wanted, back, len(self._program))

    def _one(self, name: Any, argument: Any) -> Test:
        if name is op.ANY:
            return lambda character: character != "\n"
        if name is op.IN:
            negated = argument[0][0] is op.NEGATE
            tests = [self._one(*each) for each in argument if each[0] is not op.NEGATE]
            return lambda character: any(test(character) for test in tests) is not negated
        return self._primitive(name, argument)

    def _primitive(self, name: Any, argument: Any) -> Test:
        classes = {op.CATEGORY_WORD: r"\w", op.CATEGORY_SPACE: r"\s", op.CATEGORY_DIGIT: r"\d"}
        if name is op.LITERAL:
            said = re.escape(chr(argument))
        elif name is op.NOT_LITERAL:
            said = f"[^{re.escape(chr(argument))}]"
        elif name is op.RANGE:
            said = "[{}-{}]".format(*(re.escape(chr(each)) for each in argument))
        elif name is op.CATEGORY and argument in classes:
            said = classes[argument]
        else:
            raise NotImplementedError(f"{name} {argument}")
        single = re.compile(said, self._flags)
        return lambda character: single.fullmatch(character) is not None

    def _run(self, at: int, text: str, position: int) -> int | None:
        """The end of the match that begins here, or None."""
        tries = [(at, position)]
        while tries:
            at, position = tries.pop()
            while True:
                self.steps += 1
                name, *arguments = self._program[at]
                if name == "match":
                    return position
                if name == "split":
                    tries.append((arguments[0], position))
                    at += 1
                elif name == "jump":
                    at = arguments[0]
                elif name == "one" and position < len(text) and arguments[0](text[position]):
                    at, position = at + 1, position + 1
                elif (name == "at" and self._at(arguments[0], text, position)) or (
                    name == "look" and self._looks(at, text, position)
                ):
                    at = at + 1 if name == "at" else arguments[2]
                else:
                    break
        return None

    def _looks(self, at: int, text: str, position: int) -> bool:
        _, wanted, back, _ = self._program[at]
        start = position - back
        return (start >= 0 and self._run(at + 1, text, start) is not None) is bool(wanted)

    def _at(self, where: Any, text: str, position: int) -> bool:
        if where is not op.AT_BOUNDARY:
            raise NotImplementedError(str(where))
        around = (text[position - 1 : position] if position else "", text[position : position + 1])
        return bool(re.match(r"\w", around[0])) is not bool(re.match(r"\w", around[1]))
