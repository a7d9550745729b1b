"""A comparison in words, as a text table and as a coloured one."""

from html import escape
from typing import Any

import numpy as np
import pandas as pd

from compare.vacuity import why

SHOWN = 80  # rows of several steps that are printed in full
COLOURS = {"ok": "#1a7f37", "vacuous": "#9a6700"}  # every other verdict is red
RED, PINK = "#cf222e", "#ffebe9"
WHOSE = {
    "manual": "a bug in manual: torch and the oracle agree",
    "torch": "a bug on torch's side: manual and the oracle agree",
    "both": "a bug on both sides: the oracle says otherwise",
    "undecided": "more than rounding, so a bug; whose it is the oracle cannot say here",
}


def describe(row: pd.Series) -> str:
    """One failing row in words."""
    if row.verdict == "mismatch":
        values = f"manual {_value(row.manual)} and torch {_value(row.torch)} at {list(row.worst)}"
        if row.blame == "both":
            text = f"{values}, but the oracle says {_value(row.oracle)}"
        elif not np.isfinite(row.allowed):
            text = f"{values} differ, and there is no bound on what rounding may do"
        else:
            share = f"{row.used:.3g} times what rounding allows ({row.allowed:.3g})"
            text = f"{values} differ by {share}"
            if np.isfinite(row.oracle):
                text += f"; the oracle says {_value(row.oracle)}"
    elif row.verdict == "nonfinite":
        values = f"manual {_value(row.manual)}, torch {_value(row.torch)}"
        text = f"not finite at {list(row.worst)}: {values}"
    elif row.verdict == "vacuous":
        return f"vacuous: {why(row['name'])}; declare it with allow_vacuous if it is meant"
    else:
        text = f"{row.verdict}: manual has {row.manual}, torch {row.torch}"
    return f"{text}; to blame: {row.blame}" if row.blame else text


def summary(frame: pd.DataFrame, failures: pd.DataFrame, asked: str) -> str:
    """How many tensors, how many failed, and the first of those."""
    count = f"{len(frame)} tensors"
    if len(frame) and not len(failures):
        vacuous = int((frame.verdict == "vacuous").sum())
        passed = (
            f"{len(frame) - vacuous} ok, {vacuous} vacuous as declared" if vacuous else "all ok"
        )
        return f"{count}: {passed}, at most {frame.used.max():.0%} of the allowance{asked}"
    if not len(frame):
        return "no tensors"
    first = failures.iloc[0]
    return (
        f"{count}, {len(failures)} not ok; first: step {first.step}, {first['name']}: "
        f"{describe(first)}"
    )


def shown(frame: pd.DataFrame, failures: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows to print, and a line about the others: of many steps the first that fails, or the
    one that came nearest to it."""
    if len(frame) <= SHOWN or frame.step.nunique() == 1:
        return frame, ""
    step = failures.iloc[0].step if len(failures) else frame.loc[frame.used.idxmax()].step
    which = "the first that fails" if len(failures) else "where most of the allowance is used"
    return frame[frame.step == step], f"(step {step} of {frame.step.max()}: {which})\n"


def table(frame: pd.DataFrame) -> str:
    """The frame as text, one line a row."""
    return texts(frame).to_string(index=False)


def texts(frame: pd.DataFrame) -> pd.DataFrame:
    """What is printed of each row; the oracle and the blame where something is not ok."""
    columns = {
        "step": frame.step,
        "name": frame["name"],
        "shape": [str(list(s)) if isinstance(s, tuple) else "" for s in frame["shape"]],
        "dtype": frame["dtype"],
        "max_abs": [_number(v) for v in frame.max_abs],
        "max_ulp": [_number(v) for v in frame.max_ulp],
        "allowed": [_number(v) for v in frame.allowed],
        "used": [_number(100 * v, "%") for v in frame.used],
        "worst": [str(list(w)) if isinstance(w, tuple) else "" for w in frame.worst],
        "manual": [_value(v) for v in frame.manual],
        "torch": [_value(v) for v in frame.torch],
    }
    blamed = [who or "" for who in frame.blame]
    if any(blamed):
        columns["oracle"] = ["" if np.isnan(v) else _value(v) for v in frame.oracle]
    columns["verdict"] = frame.verdict
    if any(blamed):
        columns["blame"] = blamed
    return pd.DataFrame(columns)


def html(frame: pd.DataFrame, caption: str) -> str:
    """The table with its verdicts in colour."""

    def colours(column: pd.Series) -> list[str]:
        return [f"color: {COLOURS.get(verdict, RED)}; font-weight: bold" for verdict in column]

    rows = texts(frame).reset_index(drop=True)
    styled = rows.style.format(escape="html").hide(axis="index").set_caption(escape(caption))
    styled = styled.apply(colours, subset=["verdict"])
    red = [k for k, verdict in enumerate(rows.verdict) if verdict not in COLOURS]
    return styled.set_properties(subset=(red, slice(None)), **{"background-color": PINK}).to_html()


def explain(row: pd.Series, reason: str | None) -> str:
    """Where a row's allowance comes from, its worst element, what the three witnesses say there,
    and what follows."""
    lines = [f"{row['name']}, step {row.step}: {row.stage}, {list(row['shape'])}, {row['dtype']}"]
    if isinstance(row.worst, tuple) and np.isfinite(row.allowed):
        lines += _reason(row, reason)
        share = f"{row.used:.3g} times" if row.used > 10 else f"{row.used:.2g} of"
        lines.append(
            f"  difference  {_number(abs(row.manual - row.torch))} at {list(row.worst)}, the worst "
            f"element: {share} the allowance; nowhere more than {_number(row.max_ulp)} ulp"
        )
    for side in ("manual", "torch", "oracle"):
        value = row[side]
        text = _value(value)
        if isinstance(value, float) and np.isnan(value) and side == "oracle":
            text = "has no answer here, or was not asked"
        elif side != "oracle" and isinstance(value, float) and np.isfinite(row.oracle):
            text += f"  ({_number(abs(value - row.oracle))} from the oracle)"
        lines.append(f"  {side:<11} {text}")
    return "\n".join([*lines, f"  {'verdict':<11} {row.verdict}: {_conclusion(row)}"])


def _reason(row: pd.Series, reason: str | None) -> list[str]:
    how = "twice what rounding can do on one side"
    if row["name"].endswith(")"):  # "d_x (linear)": of what it is the rounding, the reason says
        how = "what rounding can do"
    there = f"{row.allowed:.3g} there: {how}" if row.allowed else "0 there: nothing is rounded"
    lines = [f"  {'allowed':<11} {there}"]
    if reason:
        lines.append(f"  {'':<11} {reason}")
    if row.allowed and row["dtype"] in ("float32", "float64"):
        u = np.finfo(row["dtype"]).eps / 2
        lines.append(
            f"  {'':<11} u = {u:.3g} for each rounding in {row['dtype']}; "
            "a sum of n products is off by at most min(n, 6√n) u Σ|a b|"
        )
    return lines


def _conclusion(row: pd.Series) -> str:
    if row.verdict == "ok":
        return "rounding, not a bug" if row.max_abs else "no difference"
    if row.verdict == "vacuous":
        return why(row["name"])
    if row.verdict == "mismatch":
        return WHOSE[row.blame or "undecided"]
    return describe(row)


def _number(value: float, unit: str = "") -> str:
    return "" if pd.isna(value) else f"{value:.2g}{unit}"


def _value(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)
