"""Marked sheets as one HTML page that needs nothing else: no network, no other file."""

import base64
import hashlib
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import jinja2

from compare.worked.page import steps as computation
from compare.worked.page.claims import GLYPHS, Claims
from compare.worked.page.drawing import Drawing, draw, too_large
from compare.worked.page.figures import as_printed, number
from compare.worked.page.network import Network
from compare.worked.page.tables import Table, tables

ROWS = 40  # the most observations whose steps are on the page
PHASES = ("given", "forward", "loss", "backward", "update")


@dataclass(frozen=True)
class Page:
    """One sheet, as the template takes it."""

    marking: object
    net: Network
    claims: Claims
    rows: list[list[computation.Step]]  # for each observation shown, its steps
    drawings: list[Drawing]  # wide and narrow; none where the network is too large
    too_large: str
    tables: list[Table]

    @property
    def steps(self) -> list[computation.Step]:
        return self.rows[0]


def write(markings: list, path: str | Path) -> None:
    """Write the page of these markings to `path`, whole or not at all. Raises OSError."""
    content, path = render(markings).encode(), Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    finally:
        with suppress(FileNotFoundError):  # as after the rename
            os.unlink(name)


def render(markings: list) -> str:
    """The page as text. Whatever comes from a sheet is escaped, and no script but the page's own
    may run: the page forbids it by the script's hash."""
    style, script = _file("page.css"), _file("page.js")
    return (
        _environment()
        .get_template("page.html")
        .render(
            pages=[_page(marking) for marking in markings],
            style=style,
            script=script,
            style_hash=_hash(style),
            script_hash=_hash(script),
            glyphs=GLYPHS,
            phases=PHASES,
            number=number,
            as_printed=as_printed,
        )
    )


def _page(marking) -> Page:
    net = Network(marking)
    plan = computation.plan(net)
    claims, reason = Claims(marking, net, plan), too_large(net)
    shown = range(min(net.rows, ROWS))
    return Page(
        marking=marking,
        net=net,
        claims=claims,
        rows=[computation.steps(net, claims, row, writes=not reason) for row in shown],
        drawings=[] if reason else [draw(net, claims, plan, shown, n) for n in (False, True)],
        too_large=reason,
        tables=tables(net, claims, plan, shown),
    )


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader(__name__, ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _file(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As a Content-Security-Policy names what may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
