"""What a planted bug is, how it is planted, and what `compare` says about it."""

import builtins
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from types import CodeType
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from compare import Comparison, compare
from compare.cases.case import Draw

Arguments = dict[str, Any]  # of `compare`
Case = Callable[[Draw], Arguments]
Plant = Callable[[Arguments], AbstractContextManager]


@dataclass(frozen=True)
class Bug:
    """One mistake, and where it must be found.

    subject: the public name of manual.nn or manual.optim that is wrong, or whose counterpart in
    torch is. wrong: the mistake in words. plant(arguments): makes it, until the context is left;
    it may change the arguments. case: draws the arguments of `compare`; without the bug the
    comparison passes.
    step, row, blame: of the first failing row.
    """

    subject: str
    wrong: str
    plant: Plant
    case: Case
    row: str
    blame: str = "manual"
    step: int = 1

    @property
    def name(self) -> str:
        return f"{self.subject}: {self.wrong}"


class Found(NamedTuple):
    """What was found first: "" where nothing was."""

    row: str
    verdict: str
    blame: str | None
    step: int
    comparison: Comparison

    @property
    def rejected(self) -> bool:
        return not self.comparison.passed


def arguments(case: Case, dtype: np.dtype, seed: int) -> Arguments:
    return {"seed": seed} | case(Draw(np.dtype(dtype), np.random.default_rng(seed)))


def find(bug: Bug, dtype: np.dtype, seed: int, oracle: bool = True) -> Found:
    """Plant the bug, and compare. oracle: as for `compare`."""
    given = arguments(bug.case, dtype, seed)
    with bug.plant(given):
        comparison = compare(**given, oracle=oracle)
    if comparison.passed:
        return Found("", "ok", None, 0, comparison)
    first = comparison.failures.iloc[0]
    return Found(first["name"], first.verdict, comparison.blame, int(first.step), comparison)


def as_expected(bug: Bug, found: Found) -> bool:
    return found.rejected and found[2:4] == (bug.blame, bug.step) and found.row == bug.row


# Ways to plant.


def edited(function: Callable, *edits: str) -> Plant:
    """Another text in a function's source: edits are pairs of the old text, which must stand
    there exactly once, and the new. Whoever holds the function has the edited one."""

    @contextmanager
    def plant(arguments: Arguments) -> Iterator[None]:
        inner = inspect.unwrap(function)
        right, inner.__code__ = inner.__code__, _edited(inner, edits)
        try:
            yield
        finally:
            inner.__code__ = right

    return plant


def _edited(function: Callable, edits: tuple[str, ...]) -> CodeType:
    source = textwrap.dedent(inspect.getsource(function))
    source = source[source.index("def ") :]  # without decorators
    for old, new in zip(edits[::2], edits[1::2], strict=True):
        if source.count(old) != 1:
            raise ValueError(f"{old!r} stands {source.count(old)} times in\n{source}")
        source = source.replace(old, new)
    # In a function of its own, so that super() finds the class it belongs to.
    source = f"def around(__class__):\n{textwrap.indent(source, '    ')}"
    source += f"\n    return {function.__name__}"
    scope: dict[str, Any] = {}
    exec(
        builtins.compile(source, function.__code__.co_filename, "exec"), function.__globals__, scope
    )
    return scope["around"](None).__code__


def patched(owner: Any, **attributes: Any) -> Plant:
    """Other attributes of a class or a module."""
    return lambda arguments: mock.patch.multiple(owner, **attributes)


def together(*plants: Plant) -> Plant:
    """All of them."""

    @contextmanager
    def plant(arguments: Arguments) -> Iterator[None]:
        with ExitStack() as stack:
            for one in plants:
                stack.enter_context(one(arguments))
            yield

    return plant
