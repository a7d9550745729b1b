"""The tables of a TOML file checked, key by key, and made into what a `Sheet` holds."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from compare.worked import decimals, meaning
from compare.worked.claims import Claim, Step, line, number, text
from compare.worked.errors import Problem, SheetError, one_of, quoted
from compare.worked.formula import formula
from compare.worked.places import Place

ACTIVATIONS = (
    *("identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "softplus", "arctan"),
    "softmax",
)
LOSSES = (
    *("half_squared_error", "sum_squared_error", "mean_squared_error"),
    *("binary_cross_entropy", "cross_entropy"),
)
OPTIMIZERS = ("sgd", "adam")
STAGES = ("forward", "derivative", "backward", "updated", "statement")

# Worked by hand; what is larger would take long in 80 digits.
MOST_LAYERS = 20
MOST_WIDTH = 200
MOST_PARAMETERS = 2_000
MOST_ROWS = 100
MOST_CLAIMS = 500
MOST_WORK = 20_000_000  # multiplications, or nearly: some ten seconds


def checked(tables: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """The fields of a `Sheet`, but for its path. Raises `SheetError`."""
    return _Reader(path).fields(tables)


class _Reader:
    def __init__(self, path: str | Path) -> None:
        self.path = path

    def fail(self, key: str, problem: object) -> SheetError:
        return SheetError(self.path, key, str(problem))

    def at(self, key: str, function: Callable, *arguments: Any) -> Any:
        """function(*arguments), whose `Problem` is one of this key."""
        try:
            return function(*arguments)
        except Problem as problem:
            raise self.fail(key, problem) from None

    def table(self, key: str, value: Any, known: Iterable[str], needed: Iterable[str]) -> dict:
        """A table with these keys at most and those at least."""
        prefix = f"{key}." if key else ""
        if not isinstance(value, dict):
            raise self.fail(key, f"expected a table, got {quoted(value)}")
        for name in value:
            if name not in known:
                raise self.fail(f"{prefix}{name}", f"unknown key; {one_of(name, known)}")
        for name in needed:
            if name not in value:
                raise self.fail(f"{prefix}{name}", "expected, and missing")
        return value

    def fields(self, tables: dict[str, Any]) -> dict[str, Any]:
        known = ("title", "source", "network", "data", "step", "names", "claims")
        known = (*known, "notes", "corrections")
        self.table("", tables, known, ("title", "network", "data", "claims"))
        title = self.at("title", line, tables["title"])
        source = self.at("source", line, tables.get("source", ""))
        network = ("layers", "activations", "loss", "parameters")
        network = self.table("network", tables["network"], network, network[:2])
        layers = self.at("network.layers", _layers, network["layers"])
        activations = self.activations(network["activations"], layers)
        count = sum((m + 1) * n for m, n in itertools.pairwise(layers))
        if count > MOST_PARAMETERS:
            expected = f"expected at most {MOST_PARAMETERS:,} weights and biases"
            raise self.fail("network.layers", f"{expected}, got {count:,}")
        loss = network.get("loss")
        if loss is not None and loss not in LOSSES:
            raise self.fail("network.loss", one_of(loss, LOSSES))
        modules = modules_of(layers, activations)
        parameters = self.parameters(network.get("parameters", []), layers, modules)
        given = self.data(tables["data"], layers, loss) | parameters
        step = None
        if "step" in tables:
            step = self.step(tables["step"], list(parameters))
        shapes = shapes_of(given, layers, modules, loss, step)
        self.small(given, shapes)
        if step and not loss:
            raise self.fail("network.loss", "expected, for there is a [step], and missing")
        names = self.names(tables.get("names", {}), shapes)
        claims = self.claims(tables, names, shapes, modules)
        return {
            "title": title,
            "source": source,
            "layers": layers,
            "activations": activations,
            "loss": loss,
            "modules": modules,
            "given": given,
            "step": step,
            "names": names,
            "claims": claims,
            "shapes": shapes,
        }

    def activations(self, value: Any, layers: tuple[int, ...]) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(a, str) for a in value):
            raise self.fail("network.activations", f"expected a list of names, got {quoted(value)}")
        for k, name in enumerate(value):
            if name not in ACTIVATIONS:
                raise self.fail(f"network.activations[{k}]", one_of(name, ACTIVATIONS))
        steps = len(layers) - 1
        if len(value) not in (steps, steps + 1) or not value:
            expected = f"expected {steps} names, one for each layer but the first, or {steps + 1}, "
            expected += "the first of which is applied to x itself"
            raise self.fail("network.activations", f"{expected}; got {len(value)}")
        return tuple(value)

    def parameters(self, value: Any, layers: tuple, modules: tuple) -> dict[str, np.ndarray]:
        key = "network.parameters"
        linears = [k for k, module in enumerate(modules) if module == "linear"]
        if not isinstance(value, list) or len(value) != len(linears):
            count = f"{len(value)}" if isinstance(value, list) else quoted(value)
            expected = f"expected {len(linears)} tables [[{key}]], one for each layer but the first"
            raise self.fail(key, f"{expected}; got {count}")
        found = {}
        for i, (k, one) in enumerate(zip(linears, value, strict=True)):
            where = f"{key}[{i}]"
            self.table(where, one, ("weight", "bias"), ("weight",))
            n, m = layers[i + 1], layers[i]
            found[f"{k}.weight"] = self.matrix(f"{where}.weight", one["weight"], (n, m))
            if "bias" in one:
                found[f"{k}.bias"] = self.matrix(f"{where}.bias", one["bias"], (n,))
        return found

    def matrix(self, key: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
        """Numbers in lists of lists; None in the shape is any length from 1 to MOST_ROWS."""
        n, *inner = shape
        rows = "a list" if n is None else f"{n} lists" if n > 1 else "1 list"
        wanted = f"{rows} of {inner[0]} numbers" if inner else f"{n} numbers"
        if not isinstance(value, list):
            raise self.fail(key, f"expected a list: {wanted}; got {quoted(value)}")
        if len(value) != n if n else not 1 <= len(value) <= MOST_ROWS:
            bounds = f" for each of 1 to {MOST_ROWS} rows" if n is None else ""
            raise self.fail(key, f"expected {wanted}{bounds}; got {len(value)}")
        if inner:
            rows = [self.matrix(f"{key}[{i}]", row, tuple(inner)) for i, row in enumerate(value)]
            return np.array(rows, dtype=object).reshape(len(value), *inner)
        found = np.empty(len(value), dtype=object)
        for i, entry in enumerate(value):
            found[i] = self.at(f"{key}[{i}]", number, entry).value
        return found

    def data(self, value: Any, layers: tuple, loss: str | None) -> dict[str, np.ndarray]:
        self.table("data", value, ("x", "y"), ("x", "y") if loss else ("x",))
        found = {"x": self.matrix("data.x", value["x"], (None, layers[0]))}
        if "y" not in value:
            return found
        y, rows, classes = value["y"], len(found["x"]), layers[-1]
        if loss == "cross_entropy" and isinstance(y, list) and all(type(c) is int for c in y):
            if len(y) != rows or not all(0 <= c < classes for c in y):
                expected = f"expected {rows} numbers of classes, 0 to {classes - 1}"
                raise self.fail("data.y", f"{expected}, got {quoted(y)}")
            return found | {"y": decimals.array(y)}
        found["y"] = self.matrix("data.y", y, (rows, classes))
        if loss in ("binary_cross_entropy", "cross_entropy"):
            for index, entry in np.ndenumerate(found["y"]):
                if not 0 <= entry <= 1:
                    where = "".join(f"[{i}]" for i in index)
                    raise self.fail(f"data.y{where}", f"expected 0 to 1, for {loss}; got {entry}")
        return found

    def step(self, value: Any, parameters: list[str]) -> Step:
        known = ("optimizer", "lr", "momentum", "weight_decay", "frozen")
        self.table("step", value, known, ("optimizer", "lr"))
        if value["optimizer"] not in OPTIMIZERS:
            raise self.fail("step.optimizer", one_of(value["optimizer"], OPTIMIZERS))
        if not parameters:
            raise self.fail("step", "the network has no parameter to update")
        numbers = {}
        for name in ("lr", "momentum", "weight_decay"):
            if name in value:
                found = self.at(f"step.{name}", number, value[name])
                if found.value < 0:
                    raise self.fail(f"step.{name}", f"expected 0 or more, got {found.text}")
                numbers[name] = found.value
        if numbers.get("momentum") and value["optimizer"] == "adam":
            raise self.fail("step.momentum", "adam has none; expected with optimizer 'sgd' only")
        frozen = value.get("frozen", [])
        if not isinstance(frozen, list):
            raise self.fail("step.frozen", f"expected a list of parameters, got {quoted(frozen)}")
        for k, name in enumerate(frozen):
            if name not in parameters:
                raise self.fail(f"step.frozen[{k}]", one_of(name, parameters))
        return Step(value["optimizer"], frozen=tuple(frozen), **numbers)

    def small(self, given: dict[str, np.ndarray], shapes: dict[str, tuple]) -> None:
        count = sum(a.size for name, a in given.items() if name not in ("x", "y"))
        rows, *widths = (
            shapes["x"][0],
            *(s[1] for r, s in shapes.items() if r.startswith("activation.")),
        )
        # every number is moved up and down, and what follows computed anew; an e^x is 50 products
        work = rows * (count + sum(widths)) * (count + 50 * sum(widths))
        if work > MOST_WORK:
            expected = "expected a smaller network or fewer rows, as can be worked by hand"
            raise self.fail("network.layers", f"{expected}; got {count:,} parameters, {rows} rows")

    def names(self, value: Any, shapes: dict[str, tuple]) -> dict[str, Place]:
        if not isinstance(value, dict):
            raise self.fail("names", f"expected a table, got {quoted(value)}")
        if len(value) > MOST_CLAIMS:
            raise self.fail("names", f"expected at most {MOST_CLAIMS}, got {len(value)}")
        found: dict[str, Place] = {}
        for name, meant in value.items():
            key = f"names.{name}"
            self.at(key, line, name)
            if not name.strip() or name != name.strip():
                raise self.fail(key, "expected a name that is not blank, without spaces around it")
            if name in shapes:
                raise self.fail(key, "is the name of a row already; expected another name")
            if not isinstance(meant, str):
                example = "'0.weight[0,0]' or 'activation.3[0,0]'"
                raise self.fail(key, f"expected a place, as {example}, got {quoted(meant)}")
            found[name] = self.at(key, meaning.meaning, meant, found, shapes)
        return found

    def claims(self, tables: dict, names: dict, shapes: dict, modules: tuple) -> tuple:
        listed = self.table("claims", tables["claims"], STAGES, ())
        notes, corrections = (self.texts(tables, name) for name in ("notes", "corrections"))
        counts = Counter(name for t in listed.values() if isinstance(t, dict) for name in t)
        found = []
        for stage, table in listed.items():
            key = f"claims.{stage}"
            if not isinstance(table, dict):
                raise self.fail(key, f"expected a table, got {quoted(table)}")
            for name, value in table.items():
                note, corrected = (t.get(stage, {}).pop(name, None) for t in (notes, corrections))
                claim = self.at(f"{key}.{name}", meaning.claim, name, stage, value, names, shapes)
                if corrected is not None:
                    where = f"corrections.{stage}.{name}"
                    corrected = self.at(where, formula, corrected, names, shapes)
                label = name if counts[name] == 1 else f"{name} ({stage})"
                found.append(Claim(*claim, label, note or "", corrected))
        if not 0 < len(found) <= MOST_CLAIMS:
            raise self.fail("claims", f"expected 1 to {MOST_CLAIMS} claims, got {len(found)}")
        for table, left in (("notes", notes), ("corrections", corrections)):
            for stage, texts in left.items():
                for name in texts:
                    problem = one_of(name, list(listed.get(stage, {})))
                    raise self.fail(f"{table}.{stage}.{name}", f"is no claim; {problem}")
        return tuple(found)

    def texts(self, tables: dict, name: str) -> dict[str, dict[str, str]]:
        """Texts about claims: stage → claim → text."""
        found = self.table(name, tables.get(name, {}), STAGES, ())
        for stage, table in found.items():
            if not isinstance(table, dict):
                raise self.fail(f"{name}.{stage}", f"expected a table, got {quoted(table)}")
            for claim, written in table.items():
                self.at(f"{name}.{stage}.{claim}", text, written)
        return {stage: dict(table) for stage, table in found.items()}


def modules_of(layers: tuple[int, ...], activations: tuple[str, ...]) -> tuple[str, ...]:
    """linear, activation, linear, activation, …; an activation first where there is one more."""
    on_x = len(activations) == len(layers)
    rest = [m for a in activations[on_x:] for m in ("linear", a)]
    return (*activations[:on_x], *rest)


def shapes_of(
    given: dict[str, np.ndarray], layers: tuple, modules: tuple, loss: str | None, step: Step | None
) -> dict[str, tuple[int, ...]]:
    """Row → shape, of everything that a claim or a formula can name."""
    parameters = {k: v.shape for k, v in given.items() if k not in ("x", "y")}
    rows, width, widths = len(given["x"]), layers[0], iter(layers[1:])
    shapes = {"x": given["x"].shape}
    for k, module in enumerate(modules):
        width = next(widths) if module == "linear" else width
        shapes[f"activation.{k}"] = (rows, width)
    backward = {f"d_{name}": shape for name, shape in reversed(shapes.items())} if loss else {}
    shapes |= parameters
    if "y" in given:
        shapes["y"] = given["y"].shape
    if loss:
        shapes["loss"] = ()
        shapes |= backward | {f"grad.{k}": shape for k, shape in parameters.items()}
    if step:
        shapes["lr"] = ()
        shapes |= {f"updated.{k}": shape for k, shape in parameters.items()}
    return shapes


def _layers(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_LAYERS:
        raise Problem(f"expected a list of 1 to {MOST_LAYERS} widths, got {quoted(value)}")
    for n in value:
        if type(n) is not int or not 1 <= n <= MOST_WIDTH:
            expected = f"expected whole numbers from 1 to {MOST_WIDTH}"
            raise Problem(f"{expected}, got {quoted(value if type(n) is not int else str(n))}")
    return tuple(value)
