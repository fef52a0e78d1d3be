"""Whether a mutant is killed: the tests that run its line, one after the other until one fails, in a fork for each.

Two ways of planting. The code of a function is exchanged in a process that has collected all tests, so that nothing
has to be imported anew. What runs while a module is imported is planted before it is, as the zoo does.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pickle
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import accumulate
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest

from tests.mutation.forks import BrokenForkError, Work, forked
from tests.mutation.mutants import Mutant
from tests.mutation.targets import ROOT, SOURCE, Target
from tests.zoo.bug import plant_module

ARGUMENTS = ("-q", "-s", "-p", "no:cacheprovider", "--no-header", "--no-summary")
CPU_MIN_S = 3.0
TESTS_CPU_S = 10.0
"""So much of the processor the tests of one mutant may cost, the cheap ones first; unless all tests are wanted."""

IMPORTED_CPU_S = 300.0
UNMAPPED_CPU_S = 60.0

NOT_EXCHANGED = "the function cannot have this code"

Line = tuple[str, int]


class How(Enum):
    """Which tests judge a mutant."""

    ALL = "all that run its line"
    OWN = "of those that are written for its group, what runs its line"
    UNMAPPED = "those that are written for its group, the ones for its file first, without asking what they run"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`killer` is the test that failed, or what else gave the mutant away; "" if it survived."""

    mutant: Mutant
    killer: str


@dataclass(slots=True)
class Coverage:
    """Which tests run a line, what each costs (CPU s) and where it stands; which lines of functions run at import."""

    tests: dict[Line, set[str]] = field(default_factory=lambda: defaultdict(set))
    cost_s: dict[str, float] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    imported: set[Line] = field(default_factory=set)
    modules: tuple[str, ...] = ()

    def of(self, mutant: Mutant) -> set[str]:
        """The tests that run its statement."""
        lines = range(mutant.first, mutant.last + 1)
        return set().union(*(self.tests.get((mutant.file, line), ()) for line in lines))

    def of_file(self, file: str) -> set[str]:
        """The tests that run anything of the file."""
        return set().union(*(tests for (name, _), tests in self.tests.items() if name == file))

    def runs_at_import(self, mutant: Mutant) -> bool:
        lines = range(mutant.first, mutant.last + 1)
        return mutant.is_imported or any((mutant.file, line) in self.imported for line in lines)


def judged(mutants: Sequence[tuple[Target, Mutant]], tests: Sequence[str], jobs: int, how: How) -> Iterator[Verdict]:
    """Each mutant's verdict, in no order. `tests` is what pytest is to collect.

    Raises BrokenForkError when the tests do not pass as the code stands.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
        found = Path(folder) / "coverage"
        later: list[int] = []
        host = _Host(mutants, jobs, how, found)
        for number, killer in _told_by(lambda tell: host.run(tests, tell)):
            if killer is None:
                later.append(number)
            else:
                yield Verdict(mutants[number][1], killer)
        coverage: Coverage = pickle.loads(found.read_bytes())
        yield from _judged_at_import(mutants, later, coverage, jobs, how)


def _told_by(run: Callable[[Callable[[object], None]], None]) -> Iterator[Any]:
    """What a fork of this process tells while it runs."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        told = os.fdopen(writing, "wb", buffering=0)
        try:
            run(lambda said: pickle.dump(said, told))
        except BaseException:  # noqa: BLE001  # nothing of the parent may go on here
            pickle.dump(traceback.format_exc(), told)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe, contextlib.suppress(EOFError):
        while True:
            said = pickle.load(pipe)
            if isinstance(said, str):
                raise BrokenForkError(said)
            yield said
    os.waitpid(pid, 0)


class _Host:
    """A plugin of pytest: once all tests are collected, it runs them as it likes."""

    def __init__(self, mutants: Sequence[tuple[Target, Mutant]], jobs: int, how: How, found: Path) -> None:
        self._mutants = mutants
        self._jobs = jobs
        self._how = how
        self._found = found
        self._coverage = Coverage()
        self._tracer = _Tracer({target.file for target, _ in mutants})
        self._failed = ""
        self._why = ""
        self._problem = ""
        self._tell: Callable[[object], None] = lambda _: None
        self._killers: dict[tuple[str, str], list[str]] = defaultdict(list)

    def run(self, tests: Sequence[str], tell: Callable[[object], None]) -> None:
        self._tell = tell
        with tempfile.TemporaryFile("w+") as log:
            for descriptor in (1, 2):
                os.dup2(log.fileno(), descriptor)
            self._tracer.start()
            status = pytest.main([*ARGUMENTS, *tests], plugins=[self])
            if status:
                log.flush()
                log.seek(0)
                tell(f"the tests cannot be run as the code stands: {self._problem or log.read()[-4_000:]}")

    def pytest_configure(self) -> None:
        _same_examples()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._coverage.imported = self._tracer.stop()
        if session.testsfailed:
            raise session.Interrupted("not all tests could be collected")
        self._coverage.modules = tuple(sys.modules)
        items = {item.nodeid: item for item in session.items}
        if self._how is not How.UNMAPPED:
            self._cover(items)
        self._found.write_bytes(pickle.dumps(self._coverage))
        functions = _functions()
        gc.freeze()
        at_import = [self._coverage.runs_at_import(mutant) for _, mutant in self._mutants]
        for number, is_so in enumerate(at_import):
            if is_so:
                self._tell((number, None))
        works = (self._work(number, items, functions) for number, is_so in enumerate(at_import) if not is_so)
        for number, killer in forked(works, self._jobs):
            if killer in items:
                self._killers[self._scope(number)].insert(0, killer)
            self._tell((number, None if killer == NOT_EXCHANGED else killer))
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self._failed:
            self._failed = report.nodeid
            self._why = report.longreprtext

    def _cover(self, items: Mapping[str, pytest.Item]) -> None:
        """Run all once, in a fork that keeps what they leave behind to itself."""
        try:
            for nodeid, cost_s, lines in _told_by(lambda tell: self._run_covered(items, tell)):
                self._coverage.cost_s[nodeid] = cost_s
                self._coverage.files[nodeid] = str(items[nodeid].path)
                for line in lines:
                    self._coverage.tests[line].add(nodeid)
        except BrokenForkError as error:
            self._problem = str(error)
            raise

    def _run_covered(self, items: Mapping[str, pytest.Item], tell: Callable[[object], None]) -> None:
        for nodeid, item in items.items():
            started = time.process_time()
            self._tracer.start()
            self._failed = ""
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if self._failed:
                tell(f"{nodeid} fails: {self._why}")
            tell((nodeid, time.process_time() - started, self._tracer.stop()))

    def _scope(self, number: int) -> tuple[str, str]:
        mutant = self._mutants[number][1]
        return mutant.file, mutant.scope

    def _chosen(self, number: int, items: Mapping[str, pytest.Item]) -> Sequence[str]:
        if self._how is How.UNMAPPED:
            files = self._mutants[number][0].tests
            return [nodeid for file in files for nodeid in items if nodeid.startswith(f"{file}::")]
        return self._ordered(number)

    def _ordered(self, number: int) -> Sequence[str]:
        """Those that killed a mutant of the function before, then those written for the file, then the cheap ones."""
        target, mutant = self._mutants[number]
        cost_s, before = self._coverage.cost_s, self._killers[self._scope(number)]
        own = {name for name in self._coverage.of(mutant) if name.startswith(target.tests)}
        some = own if self._how is How.OWN else self._coverage.of(mutant)
        ordered = sorted(some, key=lambda name: (name not in before[:20], name not in own, cost_s[name], name))
        if self._how is How.ALL:
            return ordered
        spent = accumulate(cost_s[name] for name in ordered)
        return [name for name, so_far in zip(ordered, spent, strict=True) if so_far <= TESTS_CPU_S] or ordered[:1]

    def _work(
        self,
        number: int,
        items: Mapping[str, pytest.Item],
        functions: Mapping[tuple[str, int], Sequence[FunctionType]],
    ) -> Work:
        target, mutant = self._mutants[number]
        chosen = self._chosen(number, items)
        cpu_s = (
            1.5 * sum(self._coverage.cost_s[nodeid] for nodeid in chosen) if self._coverage.cost_s else UNMAPPED_CPU_S
        )

        def run() -> str:
            module = compile(mutant.tree(), str(target.path), "exec", dont_inherit=True)
            if not _exchanged(functions, module, mutant):
                return NOT_EXCHANGED
            self._failed = ""
            for nodeid in chosen:
                try:
                    items[nodeid].config.hook.pytest_runtest_protocol(item=items[nodeid], nextitem=None)
                except BaseException as error:  # noqa: BLE001  # a mutant may raise whatever it likes
                    return f"{nodeid}: {type(error).__name__}"
                if self._failed:
                    return self._failed
            return ""

        return Work(number, run, CPU_MIN_S + cpu_s)


def _same_examples() -> None:
    """Tests with examples made at random get the same ones for every mutant, and fewer."""
    from hypothesis import settings

    settings.register_profile("mutation", derandomize=True, database=None, deadline=None, max_examples=30)
    settings.load_profile("mutation")


class _Tracer:
    """Notes which lines of some files run."""

    def __init__(self, files: Iterable[str]) -> None:
        self._files = {str(SOURCE / file): file for file in files}
        self._lines: set[Line] = set()

    def start(self) -> None:
        self._lines = set()
        sys.settrace(self._called)

    def stop(self) -> set[Line]:
        """The lines within functions since the start."""
        sys.settrace(None)
        return self._lines

    def _called(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        if code.co_filename not in self._files or not code.co_flags & 0x2:
            return None
        return self._ran

    def _ran(self, frame: FrameType, event: str, argument: object) -> Any:
        self._lines.add((self._files[frame.f_code.co_filename], frame.f_lineno))
        return self._ran


def _functions() -> dict[tuple[str, int], list[FunctionType]]:
    """All functions of the project's code, by file and first line."""
    found: dict[tuple[str, int], list[FunctionType]] = defaultdict(list)
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename.startswith(str(SOURCE)):
            found[each.__code__.co_filename, each.__code__.co_firstlineno].append(each)
    return found


def _exchanged(functions: Mapping[tuple[str, int], Sequence[FunctionType]], module: CodeType, mutant: Mutant) -> bool:
    """Give the function of the mutant its code. Whoever has imported the function has the mutant from now on.

    Not if it has lost what it takes from around it, its `super()` mostly: then it has to be imported anew.
    """
    changed = 0
    for code in _codes(module):
        for function in functions.get((code.co_filename, code.co_firstlineno), ()):
            is_it = f"{mutant.scope}.".startswith(f"{code.co_qualname}.")
            if is_it and function.__code__.co_qualname == code.co_qualname:
                if function.__code__.co_freevars != code.co_freevars:
                    return False
                function.__code__ = code
                changed += 1
    if not changed:
        raise BrokenForkError(f"no function is known as {mutant.scope}")
    return True


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _judged_at_import(
    mutants: Sequence[tuple[Target, Mutant]],
    numbers: Sequence[int],
    coverage: Coverage,
    jobs: int,
    how: How,
) -> Iterator[Verdict]:
    """First by the tests that are written for the file, then by all others that run anything of it."""
    if not numbers:
        return
    for name in coverage.modules:
        if name.partition(".")[0] not in ("orderflow", "tests", "conftest", "__main__"):
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    left: list[int] = []
    own = (_planted(number, *mutants[number], mutants[number][0].tests) for number in numbers)
    for number, killer in forked(own, jobs):
        if killer or how is not How.ALL:
            yield Verdict(mutants[number][1], killer)
        else:
            left.append(number)
    others = (_planted(number, *mutants[number], _others(mutants[number][0], coverage)) for number in left)
    for number, killer in forked(others, jobs):
        yield Verdict(mutants[number][1], killer)


def _others(target: Target, coverage: Coverage) -> Sequence[str]:
    """The files with tests that run anything of the target; the cheap ones first."""
    costs: dict[str, float] = defaultdict(float)
    for nodeid in coverage.of_file(target.file):
        costs[coverage.files[nodeid]] += coverage.cost_s[nodeid]
    own = {str(ROOT / name) for name in target.tests}
    return [file for file in sorted(costs, key=costs.__getitem__) if file not in own]


def _planted(number: int, target: Target, mutant: Mutant, tests: Sequence[str]) -> Work:
    def run() -> str:
        missing = [name for name in tests if not (ROOT / name).exists()]
        if missing:
            raise BrokenForkError(f"there are no such tests: {missing}")
        plant_module(mutant.file, mutant.tree())
        first = _First()
        arguments = (*ARGUMENTS, "-x", "-W", "ignore::pytest.PytestAssertRewriteWarning")
        status = pytest.main([*arguments, *tests], plugins=[first]) if tests else 0
        return first.failed or (f"the tests cannot be run ({int(status)})" if status else "")

    return Work(number, run, IMPORTED_CPU_S)


class _First:
    """A plugin of pytest that notes what failed first."""

    def __init__(self) -> None:
        self.failed = ""

    def pytest_configure(self) -> None:
        _same_examples()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid
