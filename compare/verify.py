"""`handgrad verify`: the homework's two updates, then every module, loss and optimizer."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from compare import homework
from compare.cases import cases
from compare.verdict import Comparison, compare

DTYPES = (np.dtype(np.float64), np.dtype(np.float32))


def verify(seed: int, progress: Callable[[str], object] = lambda name: None) -> Iterator[dict]:
    """Prove case after case; one result each: case, dtype, tensors, failed, used (largest share of
    the allowance), worst (the name of that tensor), verdict, and detail (the whole verdict)."""
    for dtype in DTYPES:
        for name in homework.PROBLEMS:
            progress(f"homework ({name})")
            frame = homework.check(name, dtype)
            used = np.maximum(frame.manual_error, frame.torch_error) / frame.allowed
            yield _result(f"homework ({name}), exact", dtype, frame, used, frame)
            net, criterion, optimizer, x, y = homework.problem(name, dtype)
            compared = compare(net, criterion, x, y, optimizer=optimizer)
            yield _result(
                f"homework ({name})", dtype, compared.frame, compared.frame.used, compared
            )
    for dtype in DTYPES:
        for case in cases(dtype, np.random.default_rng(seed)):
            progress(case.name)
            compared = compare(
                case.net,
                case.criterion,
                case.x,
                case.y,
                optimizer=case.optimizer,
                steps=case.steps,
                seed=seed,
            )
            yield _result(case.name, dtype, compared.frame, compared.frame.used, compared)


def _result(
    name: str, dtype: np.dtype, frame: pd.DataFrame, used: pd.Series, detail: Any
) -> dict[str, Any]:
    failed = frame[frame.verdict != "ok"]
    worst = failed.iloc[0] if len(failed) else frame.loc[used.idxmax()]
    return {
        "case": name,
        "dtype": str(dtype),
        "tensors": len(frame),
        "failed": len(failed),
        "used": float(used.max()),
        "worst": worst["name"],
        "verdict": "ok" if len(frame) and not len(failed) else worst.verdict,
        "detail": detail,
    }


def detail_text(result: dict) -> str:
    """The whole table of a result as text."""
    detail = result["detail"]
    if isinstance(detail, Comparison):
        return str(detail)
    return detail.to_string(index=False, float_format="{:.17g}".format)
