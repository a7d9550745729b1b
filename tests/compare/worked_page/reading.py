"""How the tests read the page: a figure as it is written, and what it should be."""

import re

SUPERSCRIPT = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
FIGURE = re.compile(r"(−?)([0-9]+(?:\.[0-9]+)?)(?:·10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?")


def figure(text: str) -> tuple[float, float]:
    """The number and half a unit of its last digit."""
    found = FIGURE.fullmatch(text)
    assert found, f"{text!r} is no figure"
    sign, digits, power = found.groups()
    scale = 10.0 ** int(power.translate(SUPERSCRIPT)) if power else 1.0
    half = 0.5 * 10.0 ** -len(digits.partition(".")[2]) * scale
    return (-1 if sign else 1) * float(digits) * scale, half


def says(text: str, exact: float) -> bool:
    """Whether the text is this number, rounded; a 0 is 0."""
    value, half = figure(text)
    if value == 0 or exact == 0:
        return value == exact
    return abs(value - exact) <= half * (1 + 1e-9) + 1e-15


def lookup(marking, place: str) -> float:
    """The exact value at a place of the page: "x[0,1]", "2.bias[0]", "grad.0.weight[1,0]"."""
    row, _, index = place.partition("[")
    at = tuple(int(i) for i in index.rstrip("]").split(",")) if index else ()
    sheet = marking.sheet
    if row == "y":
        if sheet.y.ndim == 1:
            return float(sheet.y[at[0]] == at[1])
        return float(sheet.y[at])
    if row == "lr":
        return float(sheet.step.lr)
    array = marking.exact[row] if row in marking.exact else sheet.parameters[row]
    return float(array[at])


def made(marking) -> list[set[str]]:
    """What each step makes, the input and the parameters first: places, counted from the sheet."""

    def places(row: str) -> set[str]:
        array = marking.exact[row]
        if array.ndim == 0:
            return {row}
        return {
            f"{row}[{','.join(map(str, index))}]" for index in map(tuple, _indices(array.shape))
        }

    modules = marking.sheet.modules
    steps = [places("x")]
    steps += [places(f"activation.{k}") for k in range(len(modules))]
    if marking.sheet.loss:
        steps += [places("loss"), places(f"d_activation.{len(modules) - 1}")]
        for k in reversed(range(len(modules))):
            rows = [f"d_activation.{k - 1}" if k else "d_x"]
            rows += [r for r in (f"grad.{k}.weight", f"grad.{k}.bias") if r in marking.exact]
            steps.append(set().union(*map(places, rows)))
    if marking.sheet.step:
        steps.append(set().union(*(places(f"updated.{p}") for p in marking.sheet.parameters)))
    return steps


def _indices(shape):
    if not shape:
        return [()]
    return [(i, *rest) for i in range(shape[0]) for rest in _indices(shape[1:])]


def of_row(places: set[str], row: int) -> set[str]:
    """Those that belong to this row of data, or to none."""
    data = ("x[", "activation.", "d_activation.", "d_x[")
    return {p for p in places if not p.startswith(data) or int(re.search(r"\[(\d+)", p)[1]) == row}
