"""Any hand-written backward: a pair of functions on NumPy arrays, judged against torch's autograd.

Beside the values, what a backward has to be: linear in the cotangent, without memory, the same for
every layout of memory; and it leaves alone what it is given.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from compare.backward.expected import Expected
from compare.backward.functions import Arrays, Gradients, Manual, Reference
from compare.backward.observed import Observed, is_float
from compare.comparison import Comparison, EquivalenceError
from compare.context import check_seed, context
from compare.judge import at, blame, frame, judge
from compare.trace import Tensor
from compare.vacuity import check_patterns

SMALL = 6  # a gradient of so many entries is shown to the witness in full,
DRAWN = 5  # so many of a larger one, beside the worst
WEIGHTS = (2.0, -0.5)  # of the two cotangents in the third: powers of 2, so that it is exact
REASONS = {
    "": "rounding: 2 E of `compare.rounding.black_box`, around the reference",
    "(second cotangent)": "the same, for another cotangent and the same saved values",
    "(linear)": "backward(2 u − v/2) beside 2 backward(u) − backward(v)/2: rounding of all three",
    "(non-contiguous)": "all arrays as transposed and strided copies, beside contiguous ones: "
    "rounding of both",
    "(unchanged)": "forward must not change what it is given",
    "(unchanged by backward)": "backward must not change what it is given",
    "(kept)": "what was returned must not change when the functions are called again",
    "(again)": "the same inputs must give the same numbers, whatever was computed in between",
}


def check_backward(
    forward: Callable,
    backward: Callable,
    reference: Callable,
    *arrays: np.ndarray,
    seed: int = 0,
    allow_vacuous: Sequence[str] = (),
) -> Comparison:
    """Judge the gradients of a hand-written pair of functions; EquivalenceError if one is wrong.

        forward(*arrays) → (output, saved)       output: an array or a tuple of arrays
        backward(saved, *doutputs) → a gradient for each array, None for one of integers or bools
        reference(*tensors) → output             the same in torch; it must run in float64, too

    arrays: of float32 or float64, all finite, or of integers or bools. They are copied.
    doutputs: dLoss/d<output>, random numbers drawn with `seed`; None for an output of integers.

    The rows are output and d_x (output.0, d_x.1, … where there are several), and what else has to
    hold, such as "d_x (linear)"; `REASONS` has them all. A gradient that is zero everywhere on both
    sides is "vacuous": not a pass, unless allow_vacuous has a pattern for its name.

    What is allowed is rounding in the dtype, in float32 where the arrays are of both. Blame goes by
    central differences of forward in a wider dtype (where it is the reference's function to its
    digits), else of the reference in float64; they also find a mistake that both sides make. They
    have no answer at a kink. There, and for the output itself, the reference's word holds, unless
    its gradient is hand-written, too (a `torch.autograd.Function`): "undecided".

    Raises EquivalenceError, whose text is the table and which has the comparison, where that has
    not passed; ValueError or TypeError where arrays or functions are not as described. An error of
    forward's or reference's own comes out as it is.
    """
    check_patterns("check_backward", allow_vacuous)
    check_seed("check_backward", seed)
    check = _Check(Manual(forward, backward), Reference(reference), _valid(arrays), seed)
    raised = "".join(f"{text}\n" for text in dict.fromkeys(check.observed.raised))
    names = [row["name"] for row in check.rows]
    comparison = Comparison(
        frame(check.rows),
        raised + context(seed, "cpu"),
        {(1, name): REASONS["".join(name.partition("(")[1:])] for name in names},
        tuple(allow_vacuous),
        check.asked(),
    )
    if not comparison.passed:
        raise EquivalenceError(comparison)
    return comparison


def _valid(arrays: Sequence[Any]) -> Arrays:
    for k, a in enumerate(arrays):
        if not isinstance(a, np.ndarray):
            raise TypeError(f"check_backward: array {k} must be an ndarray, got {type(a).__name__}")
        if a.dtype not in (np.float32, np.float64) and a.dtype.kind not in "iub":
            raise TypeError(
                f"check_backward: array {k} must be of float32 or float64, or of integers or "
                f"bools, got {a.dtype}"
            )
        if a.size == 0:
            raise ValueError(f"check_backward: array {k} has no elements (shape {list(a.shape)})")
        if not np.isfinite(a).all():
            raise ValueError(f"check_backward: array {k} has an element that is not finite")
    if not any(is_float(a) for a in arrays):
        raise ValueError("check_backward: no array of float32 or float64, so there is no gradient")
    return [np.array(a, order="C") for a in arrays]


class _Check:
    """The rows, and what they were made from."""

    def __init__(self, manual: Manual, reference: Reference, arrays: Arrays, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.arrays, self.questions = arrays, 0
        self.outputs, self.inputs = [], _names("x", arrays)
        # Without warnings: a value that is not finite is a verdict here.
        with np.errstate(all="ignore"):
            u, v = (self._cotangents(reference.outputs(arrays)) for _ in range(2))
            a, b = WEIGHTS
            both = [None if p is None else a * p + b * q for p, q in zip(u, v, strict=True)]
            self.observed = Observed(manual, arrays, [u, v, both])
            self.expected = Expected(self.observed, reference, [u, v])
            self.outputs = _names("output", self.observed.outputs)
            self.rows = list(self._of_forward())
            if self.observed.went_back:
                self.rows += self._of_backward()

    def asked(self) -> str:
        """How much the witness was, in words."""
        of = sum(a.size for a in self.arrays if is_float(a))
        return f"; the oracle was asked about {self.questions:,} of {of:,} entries of gradients"

    def _cotangents(self, outputs: Arrays) -> Gradients:
        """Of both signs, none near 0, and with so few digits that combinations are exact."""
        found = []
        for y in outputs:
            drawn = np.asarray(self.generator.normal(size=y.shape))
            size = np.maximum(np.round(np.abs(drawn) * 256) / 256, 1 / 8)
            found.append(np.copysign(size, drawn) if is_float(y) else None)
        return found

    def _of_forward(self) -> Iterator[dict]:
        seen, right = self.observed, self.expected
        for k, name in enumerate(self.outputs):
            row = _row(name, "forward", seen.outputs[k], right.outputs[k], 2 * right.e_outputs[k])
            if row["blame"] and right.handwritten:
                row["blame"] = "undecided"
            yield row
        for k, name in enumerate(self.inputs):
            yield _row(f"{name} (unchanged)", "forward", seen.after_forward[k], self.arrays[k])

    def _of_backward(self) -> Iterator[dict]:
        seen, right = self.observed, self.expected
        for k, name in enumerate(self.inputs):
            yield self._gradient(f"d_{name}", k, seen.first[k], 0)
        for k, name in enumerate(self.inputs):
            now, before = seen.after_backward[k], seen.after_forward[k]
            yield _row(f"{name} (unchanged by backward)", "backward", now, before)
        for k, name in enumerate(self.outputs):
            if seen.doutputs[k] is not None:
                now, before = seen.doutputs_after[k], seen.doutputs[k]
                yield _row(f"d_{name} (unchanged by backward)", "backward", now, before)
        slopes = [
            k
            for k, (g, a) in enumerate(zip(seen.first, self.arrays, strict=True))
            if g is not None and is_float(a) and g.shape == a.shape
        ]
        for k in slopes:
            name = f"d_{self.inputs[k]} (second cotangent)"
            yield self._gradient(name, k, seen.second[k], 1)
        for k in slopes:
            yield self._linear(k)
        for k, name in enumerate(self.outputs):
            given = seen.outputs[k]
            yield _row(f"{name} (kept)", "forward", seen.outputs_kept[k], given)
            yield _row(f"{name} (again)", "forward", seen.outputs_again[k], given)
            again = seen.outputs_strided[k]
            tight, loose = 2 * right.e_outputs[k], 2 * right.loose_outputs[k]
            allowed = _enough(again, given, tight, loose)
            yield _row(f"{name} (non-contiguous)", "forward", again, given, allowed)
        for k in slopes:
            name, given = f"d_{self.inputs[k]}", seen.first[k]
            tight, loose = 2 * right.e_slopes[0][k], 2 * right.loose_slopes[0][k]
            allowed = _enough(seen.strided[k], given, tight, loose)
            yield _row(f"{name} (kept)", "backward", seen.first_kept[k], given)
            yield _row(f"{name} (again)", "backward", seen.again[k], given)
            yield _row(f"{name} (non-contiguous)", "backward", seen.strided[k], given, allowed)

    def _linear(self, k: int) -> dict:
        seen, right = self.observed, self.expected
        (a, b), first, second = WEIGHTS, seen.first[k], seen.second[k]
        name, expected, allowed = f"d_{self.inputs[k]} (linear)", first, None
        if second is not None and second.shape == first.shape:
            expected = np.asarray(a * first + b * second, first.dtype)
            tight, loose = (
                4 * (abs(a) * e[k] + abs(b) * e_second[k])
                for e, e_second in (right.e_slopes, right.loose_slopes)
            )
            allowed = _enough(seen.third[k], expected, tight, loose)
        return _row(name, "backward", seen.third[k], expected, allowed)

    def _gradient(self, name: str, k: int, mine: np.ndarray | None, which: int) -> dict:
        """Against torch's for cotangent number `which`, with the witness: of the first at a
        number of entries, of the second only where they differ."""
        torchs, e = self.expected.slopes[which][k], self.expected.e_slopes[which][k]
        if mine is None and torchs is None:
            return _row(name, "backward", np.zeros(0), np.zeros(0))
        row = _row(name, "backward", mine, torchs, None if e is None else 2 * e)
        if row["verdict"] not in ("ok", "mismatch"):
            return row
        if not which and not mine.any() and not torchs.any():
            return row | {"verdict": "vacuous"}
        entries = [row["worst"]]
        if not which:
            drawn = range(mine.size)
            if mine.size > SMALL:
                drawn = self.generator.choice(mine.size, DRAWN, replace=False)
            entries += [tuple(int(i) for i in np.unravel_index(d, mine.shape)) for d in drawn]
        for index in dict.fromkeys(entries):
            self.questions += not which
            witness, error = self.expected.witness(k, index, which)
            wrong = blame(float(mine[index]), float(torchs[index]), witness, e[index], error)
            if index == row["worst"]:
                row["oracle"] = witness
            if row["verdict"] == "mismatch":
                if wrong == "undecided" and not np.isfinite(witness):
                    wrong = "undecided" if self.expected.handwritten else "manual"
                return row | {"blame": wrong}
            if wrong is not None:
                here = at(index, mine, torchs) | {"oracle": witness, "allowed": 2 * e[index]}
                return row | here | {"verdict": "mismatch", "blame": wrong}
        return row


def _names(name: str, arrays: Sequence) -> list[str]:
    return [name] if len(arrays) == 1 else [f"{name}.{k}" for k in range(len(arrays))]


def _enough(
    mine: np.ndarray | None, theirs: np.ndarray, tight: np.ndarray, loose: np.ndarray
) -> np.ndarray:
    """The tight allowance where that is enough, else the loose one."""
    if mine is None or mine.shape != theirs.shape:
        return tight
    return np.where(np.abs(mine - theirs) <= tight, tight, loose)


def _row(
    name: str,
    stage: str,
    mine: np.ndarray | None,
    theirs: np.ndarray | None,
    allowed: np.ndarray | None = None,
) -> dict:
    """By default what manual does is wrong where it differs."""
    a, b = (None if v is None else Tensor(name, stage, v) for v in (mine, theirs))
    row = judge(1, a, b, allowed)
    if row["verdict"] == "nonfinite":
        wrong = [not np.isfinite(row[side]) for side in ("manual", "torch")]
        row["blame"] = "both" if all(wrong) else "manual" if wrong[0] else "torch"
    elif row["verdict"] != "ok":
        row["blame"] = "manual"
    return row
