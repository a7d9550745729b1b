"""Mutation testing: small mistakes are made in the code one at a time, and a test must notice each.

    python tests/mutants/run.py                            all, which takes hours the first time
    python tests/mutants/run.py manual                     what is new in one part
    python tests/mutants/run.py manual/nn/linear.py …      all of some files

mutmut makes the mistakes and runs the tests. What it found is kept in .mutants/; the next run
tries only functions that have changed and mutants that were not killed. Who weakens a test removes
that folder. Every mutant that survives must stand in equivalent/ with the reason why no test
can tell it from the code; the last line says how many do not, and is an error.
"""

import gc
import os
import re
import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from functools import partial
from itertools import accumulate, zip_longest
from pathlib import Path

import libcst as cst
import pytest
import torch
from _pytest.config import _prepareconfig
from mutmut import configuration
from mutmut.__main__ import _reset_mutant_results, _run
from mutmut.mutation import file_mutation
from mutmut.runners.harness import PytestRunner
from mutmut.state import state
from mutmut.utils.file_utils import change_cwd
from mutmut.workers.isolation import run_in_fork
from report import listed, reason, report

ROOT = Path(__file__).parents[2]
# What is mutated, what is not, and which tests run: the others are slower and have nothing to add.
# The cases are inputs, as those of a test.
PARTS = {
    "manual": (["manual/nn/*.py", "manual/optim/*.py"], [], ["tests/manual"]),
    "compare": (
        ["compare/*.py"],
        ["compare/cases/*.py"],
        ["tests/compare", "--ignore=tests/compare/test_planted.py"],
    ),
}
# A mutant that has passed so many seconds of tests survives: thousands of tests use `compare`.
LIMITS = {"manual": 60, "compare": 8}
HANGS = 30  # seconds of CPU time beyond these, and it will not end; mutmut would wait for minutes
CASES = 5  # of a test of a mutant's own file, for one of any other
# Tests that a mutant fails without having made a mistake: it has frames of its own between a
# warning and its caller, and imports mutmut.
LEFT_OUT = ["-k", "not points_at_the_caller and not test_import"]


def is_mutable(function: cst.FunctionDef) -> bool:
    """mutmut leaves every decorated function alone, but here nearly every forward stands under
    @overflowing and every rule of compare under @rule.register. Not a setter, which has the name
    of its getter, nor @cache, which would remember what the code gave."""
    names = [cst.Module([]).code_for_node(d.decorator) for d in function.decorators]
    return not any(re.search(r"cache|\.setter|overload|staticmethod|classmethod", n) for n in names)


def mutate_decorated_functions() -> None:
    """The mutants are bare functions; the one that chooses among them stands under the decorators,
    which so run once, as ever."""
    skip = file_mutation.MutationVisitor._skip_node_and_children
    arrange = file_mutation.function_trampoline_arrangement

    def skip_node(self, node):
        decorated = isinstance(node, cst.FunctionDef) and node.decorators
        return False if decorated and is_mutable(node) else skip(self, node)

    def arranged(function, mutants, class_name):
        declared, [chooser, *choices], assigned, names = arrange(function, mutants, class_name)
        if function.decorators and is_mutable(function):
            choices = [choice.with_changes(decorators=[]) for choice in choices]
        return declared, [chooser, *choices], assigned, names

    file_mutation.MutationVisitor._skip_node_and_children = skip_node
    file_mutation.function_trampoline_arrangement = arranged


class Tests:
    """The tests of a part, collected once: each mutant's process then has them ready. To collect
    thousands takes seconds; to run the few that most mutants survive takes none."""

    def __init__(self, arguments: list[str]) -> None:
        with redirect_stdout(open(os.devnull, "w")):
            config = _prepareconfig(["--rootdir=.", "-q", "-s", *arguments])
            config._do_configure()
            self.session = pytest.Session.from_config(config)
            config.hook.pytest_sessionstart(session=self.session)
            config.hook.pytest_collection(session=self.session)
        self.items = {item.nodeid: item for item in self.session.items}
        # torch's first optimizer imports for seconds: here, not in the process of every mutant.
        torch.optim.SGD([torch.zeros(1, requires_grad=True)]).step()
        gc.freeze()

    def in_order(self, mutant: str, names: Iterable[str]) -> list[str]:
        """Those most likely to fail first: what killed most mutants of this file until now; then
        some cases of each test of the files that are named for it, a case of each other test, and
        so on; quick ones before slow."""
        _, *package, module = mutant.partition(".x")[0].split(".")
        homes = {f"test_{'_'.join(own)}.py" for own in ([module], package, [*package, module])}
        cases, killed = Counter(), Counter(killers(mutant).read_text().splitlines())

        def place(name: str) -> tuple[int, int, bool]:
            file, _, test = name.partition("[")[0].rpartition("/")[2].partition("::")
            cases[file, test] += 1
            at_home = file in homes
            return -killed[name], cases[file, test] // (CASES if at_home else 1), not at_home

        seconds = state().duration_by_test
        ordered = sorted(sorted(names, key=seconds.get), key=place)
        before = accumulate((seconds[name] for name in ordered), initial=0)
        limit = LIMITS[mutant.partition(".")[0]]
        return [name for name, passed in zip(ordered, before, strict=False) if passed < limit]

    def run(self, names: Iterable[str], kill: Callable[[str], object] = id) -> int:
        """0 where all pass, 1 after the first that fails, which kill() is told."""
        chosen = [self.items[name] for name in names]
        for item, after in zip_longest(chosen, chosen[1:]):
            self.session.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if self.session.testsfailed:
                kill(item.nodeid)
                return 1
        return 0


def killers(mutant: str) -> Path:
    """Where the tests are listed, one a line, that killed mutants of that file."""
    path = Path("..", "killers", mutant.partition(".x")[0])
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return path


def note(path: Path, name: str) -> None:
    with path.open("a") as file:
        file.write(f"{name}\n")


def collect_tests_once() -> None:
    collected = None

    def run_tests(self, *, mutant_name, tests: Iterable[str]) -> int:
        nonlocal collected
        with change_cwd("mutants"):
            if collected is None:
                own = configuration.config()
                arguments = own.pytest_add_cli_args + own.pytest_add_cli_args_test_selection
                collected = Tests(arguments)
            if mutant_name:
                ordered = collected.in_order(mutant_name, tests)
                seconds = LIMITS[mutant_name.partition(".")[0]] + HANGS
                resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
                return collected.run(ordered, partial(note, killers(mutant_name)))
            # mutmut wants to see that tests pass, and that they fail where they should.
            cases = {name.partition("[")[0]: name for name in collected.items}
            return run_in_fork(collected.run, cases.values())

    PytestRunner.run_tests = run_tests


def forget_imports() -> None:
    """What runs while tests are collected would count as used by the first test; but it has run
    before any mutant is chosen, and no test can tell one from another."""
    execute = PytestRunner.execute_pytest

    class Forgetting:
        def pytest_collection_finish(self) -> None:
            state()._stats.clear()

    def execute_pytest(self, params, plugins=()):
        return execute(self, params, plugins=[*plugins, Forgetting()])

    PytestRunner.execute_pytest = execute_pytest


def run(part: str, files: list[str]) -> None:
    """mutmut over a part, in a folder of its own: its tests are others, and mutmut has one list of
    tests a folder."""
    home = ROOT / ".mutants" / part
    home.mkdir(parents=True, exist_ok=True)
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and not (home / path.name).exists():
            (home / path.name).symlink_to(path)
    os.chdir(home)
    configuration.reset_config()
    config = configuration.config()
    config.only_mutate, config.do_not_mutate, tests = PARTS[part]
    config.pytest_add_cli_args_test_selection = [*tests, *LEFT_OUT]
    reasons = listed()
    _reset_mutant_results(lambda name, code: code not in (1, 3) and not reason(name, reasons))
    modules = [file.removesuffix(".py").replace("/", ".") for file in files]
    _run([f"{module}.*" for module in modules], max_children=os.cpu_count())


def main() -> int:
    mutate_decorated_functions()
    collect_tests_once()
    forget_imports()
    chosen = sys.argv[1:] or list(PARTS)
    for part in PARTS:
        files = [file for file in chosen if file.startswith(f"{part}/")]
        if files or part in chosen:
            pid = os.fork()  # mutmut and pytest leave their traces in a process
            if pid == 0:
                run(part, files)
                os._exit(0)
            if os.waitpid(pid, 0)[1]:
                return 1  # it has said why; the last run's figures would pass for its own
    return report(ROOT, PARTS)


if __name__ == "__main__":
    sys.exit(main())
