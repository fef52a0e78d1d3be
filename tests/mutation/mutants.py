"""What can be wrong with a file: its mutants, each one small slip in one place of its syntax tree.

Left alone is what decides nothing: imports, annotations, type variables, docstrings, assertions (they narrow types),
decorators and the head of a class, and the texts of errors that are raised.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

Function = ast.FunctionDef | ast.AsyncFunctionDef
Node = ast.expr | ast.stmt
Change = tuple[str, ast.AST]

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.BitXor: ast.BitAnd,
}
AROUND = 50
COMMUTATIVE = ("min", "max")
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """In `file` (below `src/orderflow`), `before` is replaced by `after`. `number` counts alike ones of a `scope`.

    `scope` is the qualified name of the function or class, "" in the module. `is_imported`: it lies in what runs when
    the module is imported. Tests that run a line from `first` to `last` can see it. `tree` makes the whole module.
    """

    file: str
    scope: str
    operator: str
    before: str
    after: str
    number: int
    is_imported: bool
    first: int
    last: int
    diff: str
    tree: Callable[[], ast.Module]

    @property
    def name(self) -> str:
        """It stays the same while the function does, wherever in the file that stands."""
        again = f" (no. {self.number})" if self.number > 1 else ""
        return f"{self.scope}: {self.before} → {self.after}{again}".removeprefix(": ")


def mutants(file: str, path: str, source: str, names: Collection[str] = ()) -> list[Mutant]:
    """All mutants of a file, or of these classes, functions and constants of it, in the order of its text."""
    tree = ast.parse(source, path)
    meant = [
        range(each.lineno, (each.end_lineno or 0) + 1) for each in tree.body if not names or _names(each) & set(names)
    ]
    counts: Counter[tuple[str, str, str]] = Counter()
    found: list[Mutant] = []
    for place in _places(tree, _Where("", None, tree.body[0], True)):
        if not any(place.where.statement.lineno in lines for lines in meant):
            continue
        for operator, node in _changes(place):
            before, after = _cropped(_short(place.node), _short(node))
            if before == after:
                continue
            counts[place.where.scope, before, after] += 1
            first, last = _lines(place.where.statement)
            found.append(
                Mutant(
                    file=file,
                    scope=place.where.scope,
                    operator=operator,
                    before=before,
                    after=after,
                    number=counts[place.where.scope, before, after],
                    is_imported=place.where.is_imported,
                    first=first,
                    last=last,
                    diff=_diff(file, place, before, after),
                    tree=_Planted(tree, place, node),
                )
            )
    return found


def _names(statement: ast.stmt) -> set[str]:
    """What a statement of a module defines."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=targets):
            return {each.id for each in targets if isinstance(each, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


@dataclass(frozen=True, slots=True)
class _Where:
    scope: str
    function: Function | None
    statement: ast.stmt
    is_imported: bool
    is_raised: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """A node, and where in its parent it stands."""

    node: Node | ast.match_case
    parent: ast.AST
    field: str
    index: int | None
    where: _Where

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


@dataclass(frozen=True, slots=True)
class _Planted:
    """Copies the tree with another node in the place, and puts the old one back."""

    tree: ast.Module
    place: _Place
    node: ast.AST

    def __call__(self) -> ast.Module:
        ast.copy_location(self.node, self.place.node)
        self.place.put(self.node)
        try:
            return ast.fix_missing_locations(copy.deepcopy(self.tree))
        finally:
            self.place.put(self.place.node)


def _places(parent: ast.AST, where: _Where) -> Iterator[_Place]:
    """Every node that may be changed, outer ones first."""
    for field, value in ast.iter_fields(parent):
        nodes = value if isinstance(value, list) else [value]
        for index, node in enumerate(nodes):
            if isinstance(node, ast.AST) and not _decides_nothing(parent, field, node):
                at = index if isinstance(value, list) else None
                inside = _inside(where, parent, field, node)
                if isinstance(node, ast.expr | ast.stmt | ast.match_case):
                    yield _Place(node, parent, field, at, inside)
                yield from _places(node, inside)


def _inside(where: _Where, parent: ast.AST, field: str, node: ast.AST) -> _Where:
    scope, function, is_imported = where.scope, where.function, where.is_imported
    if isinstance(parent, Function) and field == "body" and function is not parent:
        scope = f"{scope}.{parent.name}".removeprefix(".")
        function, is_imported = function or parent, False
    elif isinstance(parent, ast.ClassDef) and field == "body":
        scope = f"{scope.removesuffix(parent.name).removesuffix('.')}.{parent.name}".removeprefix(".")
    statement = node if isinstance(node, ast.stmt) else where.statement
    is_raised = not isinstance(node, ast.stmt) and (where.is_raised or isinstance(parent, ast.Raise))
    return _Where(scope, function, statement, is_imported, is_raised)


def _decides_nothing(parent: ast.AST, field: str, node: ast.AST) -> bool:
    if isinstance(node, ast.Assert | ast.Import | ast.ImportFrom):
        return True
    if field in ("annotation", "returns", "decorator_list", "ctx", "type_params"):
        return True
    if isinstance(parent, ast.ClassDef) and field in ("bases", "keywords"):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    return isinstance(parent, ast.Module) and isinstance(node, ast.Assign) and _is_type(node.value)


def _is_type(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "TypeVar"
    return isinstance(node, ast.Subscript) or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr))


def _lines(statement: ast.stmt) -> tuple[int, int]:
    """Of the statement; of the head of one that has others in it."""
    body = getattr(statement, "body", None) or getattr(statement, "cases", None)
    if not body:
        return statement.lineno, statement.end_lineno or statement.lineno
    inner = body[0].pattern.lineno if isinstance(body[0], ast.match_case) else body[0].lineno
    return statement.lineno, max(statement.lineno, inner - 1)


def _short(node: ast.AST) -> str:
    """On one line; a statement with others in it is known by its first line."""
    if isinstance(node, ast.match_case):
        return f"case {ast.unparse(node.pattern)}" + (f" if {ast.unparse(node.guard)}" if node.guard else "")
    lines = ast.unparse(node).splitlines()
    return lines[0] if isinstance(node, ast.stmt) else " ".join(line.strip() for line in lines)


def _cropped(before: str, after: str) -> tuple[str, str]:
    """Without most of what both begin and end with."""
    start = _alike(before, after)
    end = _alike(before[start:][::-1], after[start:][::-1])
    first = start - AROUND if start > AROUND + 10 else 0
    last = end - AROUND if end > AROUND + 10 else 0

    def cropped(text: str) -> str:
        return ("…" if first else "") + text[first : len(text) - last] + ("…" if last else "")

    return cropped(before), cropped(after)


def _alike(one: str, other: str) -> int:
    """So many letters both begin with."""
    different = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(different, min(len(one), len(other)))


def _diff(file: str, place: _Place, before: str, after: str) -> str:
    line = getattr(place.node, "lineno", place.where.statement.lineno)
    return f"{file}:{line} {place.where.scope}\n    - {before}\n    + {after}"


def _changes(place: _Place) -> Iterator[Change]:
    for kind, operators in _OPERATORS.items():
        if isinstance(place.node, kind):
            for operator in operators:
                yield from operator(place)


def _compared(place: _Place) -> Iterator[Change]:
    node = place.node
    assert isinstance(node, ast.Compare)
    for index, operator in enumerate(node.ops):
        for other in COMPARISONS[type(operator)]:
            ops = [*node.ops[:index], other(), *node.ops[index + 1 :]]
            yield "comparison", ast.Compare(node.left, ops, node.comparators)


def _connected(place: _Place) -> Iterator[Change]:
    node = place.node
    assert isinstance(node, ast.BoolOp)
    yield "and/or", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    for index in range(len(node.values)):
        rest = [*node.values[:index], *node.values[index + 1 :]]
        yield "condition left out", rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


def _calculated(place: _Place) -> Iterator[Change]:
    node = place.node
    assert isinstance(node, ast.BinOp)
    yield "arithmetic", ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)


def _negated(place: _Place) -> Iterator[Change]:
    node = place.node
    assert isinstance(node, ast.UnaryOp)
    yield "sign left out", node.operand


def _constant(place: _Place) -> Iterator[Change]:
    node = place.node
    assert isinstance(node, ast.Constant)
    match node.value:
        case bool():
            yield "constant", ast.Constant(not node.value)
        case int() | float():
            yield "constant", ast.Constant(node.value + 1)
            yield "constant", ast.Constant(node.value - 1)
        case str() if not place.where.is_raised and not isinstance(place.parent, ast.FormattedValue):
            is_first = not isinstance(place.parent, ast.JoinedStr) or place.index == 0
            if is_first:
                yield "constant", ast.Constant(node.value + "XX" if node.value else "XX")
        case _:
            pass


def _chosen(place: _Place) -> Iterator[Change]:
    node = place.node
    assert isinstance(node, ast.If | ast.IfExp)
    for value in (True, False):
        other = copy.copy(node)
        other.test = ast.Constant(value)
        yield "branch", other


def _called(place: _Place) -> Iterator[Change]:
    node = place.node
    assert isinstance(node, ast.Call)
    if isinstance(node.func, ast.Name) and node.func.id in CALLS:
        yield "function", ast.Call(ast.Name(CALLS[node.func.id], ast.Load()), node.args, node.keywords)
    yield from _positioned(node)
    for index, keyword in enumerate(node.keywords):
        rest = [*node.keywords[:index], *node.keywords[index + 1 :]]
        yield "argument left out", ast.Call(node.func, node.args, rest)
        if rest[index:]:
            swapped = [ast.keyword(keyword.arg, rest[index].value), ast.keyword(rest[index].arg, keyword.value)]
            keywords = [*node.keywords[:index], *swapped, *node.keywords[index + 2 :]]
            yield "arguments swapped", ast.Call(node.func, node.args, keywords)


def _positioned(node: ast.Call) -> Iterator[Change]:
    """Texts one after the other are names in a list: their order says nothing, and that each is there does."""
    if isinstance(node.func, ast.Name) and node.func.id in COMMUTATIVE:
        return
    for index, argument in enumerate(node.args):
        if _is_text(argument) and len(node.args) > 2:
            yield "argument left out", ast.Call(node.func, node.args[:index] + node.args[index + 1 :], node.keywords)
        pair = node.args[index : index + 2]
        is_swappable = len(pair) == 2 and not any(isinstance(each, ast.Starred) for each in pair)
        if is_swappable and not all(_is_text(each) for each in pair):
            args = [*node.args[:index], *reversed(pair), *node.args[index + 2 :]]
            yield "arguments swapped", ast.Call(node.func, args, node.keywords)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _listed(place: _Place) -> Iterator[Change]:
    node = place.node
    assert isinstance(node, ast.Tuple | ast.List | ast.Set)
    if isinstance(place.parent, ast.Subscript) or not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
        return
    for index in range(len(node.elts)):
        other = copy.copy(node)
        other.elts = [*node.elts[:index], *node.elts[index + 1 :]]
        yield "element left out", other


def _mapped(place: _Place) -> Iterator[Change]:
    node = place.node
    assert isinstance(node, ast.Dict)
    for index in range(len(node.keys)):
        keys, values = list(node.keys), list(node.values)
        del keys[index], values[index]
        yield "element left out", ast.Dict(keys, values)
        if index < len(values):
            swapped = list(node.values)
            swapped[index : index + 2] = reversed(swapped[index : index + 2])
            yield "values swapped", ast.Dict(node.keys, swapped)


def _comprehended(place: _Place) -> Iterator[Change]:
    node = place.node
    assert isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp)
    for index, generator in enumerate(node.generators):
        if generator.ifs:
            other = copy.copy(node)
            without = ast.comprehension(generator.target, generator.iter, [], generator.is_async)
            other.generators = [*node.generators[:index], without, *node.generators[index + 1 :]]
            yield "condition left out", other


def _done(place: _Place) -> Iterator[Change]:
    """A statement whose effect is to be missed is left out."""
    yield "statement left out", ast.Pass()


def _assigned(place: _Place) -> Iterator[Change]:
    node, function = place.node, place.where.function
    assert isinstance(node, ast.Assign | ast.AnnAssign)
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    names = {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
    stores = [
        each for target in targets for each in ast.walk(target) if isinstance(each, ast.Attribute | ast.Subscript)
    ]
    if function is not None and (stores or names <= _bound_before(function, node.lineno)):
        yield "statement left out", ast.Pass()


def _bound_before(function: Function, line: int) -> set[str]:
    names = {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
    return names | {
        each.id
        for each in ast.walk(function)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store) and each.lineno < line
    }


def _added(place: _Place) -> Iterator[Change]:
    node = place.node
    assert isinstance(node, ast.AugAssign)
    yield "arithmetic", ast.AugAssign(node.target, ARITHMETIC[type(node.op)](), node.value)
    yield "statement left out", ast.Pass()


def _returned(place: _Place) -> Iterator[Change]:
    node = place.node
    assert isinstance(node, ast.Return)
    if node.value is None:
        yield "statement left out", ast.Pass()
    elif not (isinstance(node.value, ast.Constant) and node.value.value is None):
        yield "nothing returned", ast.Return(ast.Constant(None))


def _left(place: _Place) -> Iterator[Change]:
    is_continue = isinstance(place.node, ast.Continue)
    yield "break/continue", ast.Break() if is_continue else ast.Continue()
    yield "statement left out", ast.Pass()


def _matched(place: _Place) -> Iterator[Change]:
    node = place.node
    assert isinstance(node, ast.match_case)
    never = ast.match_case(node.pattern, ast.Constant(False), node.body)
    yield "branch", never


def _repeated(place: _Place) -> Iterator[Change]:
    node = place.node
    assert isinstance(node, ast.While)
    if not isinstance(node.test, ast.Constant):
        yield "branch", ast.While(ast.Constant(False), node.body, node.orelse)


_OPERATORS: dict[type[ast.AST], Sequence[Callable[[_Place], Iterator[Change]]]] = {
    ast.Compare: (_compared,),
    ast.BoolOp: (_connected,),
    ast.BinOp: (_calculated,),
    ast.UnaryOp: (_negated,),
    ast.Constant: (_constant,),
    ast.If: (_chosen,),
    ast.IfExp: (_chosen,),
    ast.Call: (_called,),
    ast.Tuple: (_listed,),
    ast.List: (_listed,),
    ast.Set: (_listed,),
    ast.Dict: (_mapped,),
    ast.ListComp: (_comprehended,),
    ast.SetComp: (_comprehended,),
    ast.DictComp: (_comprehended,),
    ast.GeneratorExp: (_comprehended,),
    ast.Expr: (_done,),
    ast.Raise: (_done,),
    ast.Delete: (_done,),
    ast.For: (_done,),
    ast.AsyncFor: (_done,),
    ast.Assign: (_assigned,),
    ast.AnnAssign: (_assigned,),
    ast.AugAssign: (_added,),
    ast.Return: (_returned,),
    ast.Continue: (_left,),
    ast.Break: (_left,),
    ast.match_case: (_matched,),
    ast.While: (_repeated,),
}
