"""`handgrad verify`: the homework's two updates, then all that manual.nn and manual.optim have."""

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from compare import homework
from compare.cases import Case, cases
from compare.comparison import Comparison
from compare.verdict import compare

DTYPES = (np.dtype(np.float64), np.dtype(np.float32))
HOMEWORK = "homework"


class Job(NamedTuple):
    """A case that is to be proven. prove(): its results, one or two."""

    subject: str
    name: str
    dtype: np.dtype
    prove: Callable[[], list[dict]]

    def __str__(self) -> str:
        return f"{self.name}, {self.dtype}"


def verify(
    seed: int,
    progress: Callable[[str], object] = lambda name: None,
    only: Collection[str] | None = None,
    device: str = "cpu",
) -> Iterator[dict]:
    """Prove case after case; one result each: subject (a public name of manual, or "homework"),
    case, dtype, tensors, failed, vacuous (how many could not have failed in this case), used
    (largest share of the allowance), worst (the name of that tensor), verdict, and detail (the
    whole verdict). only: these subjects alone. device: "cpu", or "cuda" for both sides."""
    for job in jobs(seed, only, device):
        progress(job.name if job.subject == HOMEWORK else job.subject)
        yield from job.prove()


def jobs(seed: int, only: Collection[str] | None = None, device: str = "cpu") -> Iterator[Job]:
    """What `verify` proves, in its order. A case is drawn when its turn comes."""
    for dtype in DTYPES:
        for name in homework.PROBLEMS if only is None or HOMEWORK in only else ():
            yield Job(
                HOMEWORK, f"homework ({name})", dtype, partial(_homework, name, dtype, device)
            )
    for dtype in DTYPES:
        for case in cases(dtype, np.random.default_rng(seed)):
            if only is None or case.subject in only:
                yield Job(case.subject, case.name, dtype, partial(_case, case, dtype, device, seed))


def _homework(name: str, dtype: np.dtype, device: str) -> list[dict]:
    frame = homework.check(name, dtype, device)
    used = np.maximum(frame.manual_error, frame.torch_error) / frame.allowed
    net, criterion, optimizer, x, y = homework.problem(name, dtype)
    compared = compare(
        net, criterion, x, y, optimizer=optimizer, device=device, allow_vacuous=["d_x"]
    )
    return [
        _result(HOMEWORK, f"({name}), exact", dtype, frame, used, frame),
        _result(HOMEWORK, f"({name})", dtype, compared.frame, compared.frame.used, compared),
    ]


def _case(case: Case, dtype: np.dtype, device: str, seed: int) -> list[dict]:
    compared = compare(
        case.net,
        case.criterion,
        case.x,
        case.y,
        optimizer=case.optimizer,
        scheduler=case.scheduler,
        clip=case.clip,
        steps=case.steps,
        device=device,
        seed=seed,
        allow_vacuous=["*"],
    )
    frame = compared.frame
    return [_result(case.subject, case.name, dtype, frame, frame.used, compared)]


def coverage(seed: int) -> list[dict]:
    """What `verify` covers: for each subject its kind ("module", "loss", …), the number of cases
    (both dtypes together), the ranks of their inputs, and the arguments that they give."""
    found: dict[str, dict] = {}

    def count(subject: str, kind: str, n: int, steps: int, rank: int, options: Iterable[str]):
        row = {"subject": subject, "kind": kind, "cases": 0, "steps": 0}
        row = found.setdefault(subject, row | {"ranks": set(), "arguments": {}})
        row["cases"] += n
        row["steps"] += steps
        row["ranks"].add(rank)
        row["arguments"] |= dict.fromkeys(options)

    for dtype in DTYPES:
        for _ in homework.PROBLEMS:  # against the exact values, and against one another
            count(HOMEWORK, HOMEWORK, 2, 2, 2, ())
        for case in cases(dtype, np.random.default_rng(seed)):
            count(case.subject, case.kind, 1, case.steps, case.x.ndim, case.options)
    return [
        row | {"ranks": _ranks(row["ranks"]), "arguments": ", ".join(row["arguments"])}
        for row in found.values()
    ]


def subjects() -> list[str]:
    """What `verify` can be asked for: "homework" and every name that has a case."""
    return [
        HOMEWORK,
        *dict.fromkeys(case.subject for case in cases(DTYPES[0], np.random.default_rng(0))),
    ]


def _ranks(ranks: set[int]) -> str:
    low, high = min(ranks), max(ranks)
    return str(low) if low == high else f"{low} to {high}"


def _result(
    subject: str, name: str, dtype: np.dtype, frame: pd.DataFrame, used: pd.Series, detail: Any
) -> dict[str, Any]:
    failed = detail.failures if isinstance(detail, Comparison) else frame[frame.verdict != "ok"]
    worst = failed.iloc[0] if len(failed) else frame.loc[used.idxmax()]
    return {
        "subject": subject,
        "case": name,
        "dtype": str(dtype),
        "tensors": len(frame),
        "failed": len(failed),
        "vacuous": int((frame.verdict == "vacuous").sum()),
        "used": float(used.max()),
        "worst": worst["name"],
        "verdict": worst.verdict if len(failed) else "ok",
        "detail": detail,
    }


def detail_text(result: dict) -> str:
    """The whole table of a result as text."""
    detail = result["detail"]
    if isinstance(detail, Comparison):
        return str(detail)
    return detail.to_string(index=False, float_format="{:.17g}".format)
