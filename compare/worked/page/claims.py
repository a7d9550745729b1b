"""What a sheet says, as it stands beside the steps, in the drawing and in the list of claims."""

from dataclasses import dataclass

from compare.worked.page.figures import as_printed
from compare.worked.page.network import Network, pretty

GLYPHS = {"exact": "✓", "rounding": "≈", "follows": "↳", "wrong": "✗"}
PER_ROW = ("x", "y", "d_x", "activation", "d_activation")  # index 0 is the observation


@dataclass(frozen=True)
class Said:
    """One claim with its mark. `right` is the exact figure where the printed one is not right."""

    name: str
    place: str
    printed: str
    mark: str
    right: str
    exact: float
    follows: str
    hint: str
    step: int
    row: int | None  # the observation, where it is about one

    @property
    def struck(self) -> bool:
        """A wrong figure is struck through; a formula could not be read then."""
        return self.mark == "wrong" and len(self.printed) <= 14

    @property
    def glyph(self) -> str:
        return GLYPHS[self.mark]


class Claims:
    """The claims of a marking; plan: row name → number of the step that makes it."""

    def __init__(self, marking, net: Network, plan: dict[str, int]) -> None:
        self.net, self.plan = net, plan
        self.all = [self._said(marked) for marked in marking.claims]

    def of(self, place: str) -> list[Said]:
        return [said for said in self.all if said.place == place]

    def at_step(self, step: int, row: int, covered: set[str]) -> list[Said]:
        """Those that belong to a step, and to this observation or to none, and to no line of it."""
        return [
            said
            for said in self.all
            if said.step == step and said.row in (None, row) and said.place not in covered
        ]

    def counts(self) -> dict[str, int]:
        return {mark: sum(said.mark == mark for said in self.all) for mark in GLYPHS}

    def _said(self, marked) -> Said:
        claim = marked.claim
        wrong = marked.mark in ("wrong", "follows")
        follows = ", ".join(map(pretty, marked.follows)) or "the sheet's rounded figures"
        return Said(
            name=self._name(claim),
            place=str(claim.place),
            printed=as_printed(claim.printed),
            mark=marked.mark,
            right=as_printed(marked.should) if wrong else "",
            exact=marked.exact,
            follows=follows if marked.mark == "follows" else "",
            hint="; ".join(text for text in (marked.hint, claim.note) if text),
            step=self._step(claim.place),
            row=_row(claim.place),
        )

    def _name(self, claim) -> str:
        """The sheet's own name is kept, with ∂E/∂ or "updated" where it names the parameter; a
        place is written as it is in the drawing."""
        name, place = claim.name, claim.place
        own = name in self.net.sheet.names
        if place.formula is None:
            if own and place.row != "derivative" and "∂" not in name:
                return self.net.symbol(place, name)
            if "[" in name or name == str(place) or (" / " in name and not own):
                return self.net.symbol(place)
        return pretty(claim.label or name)

    def _step(self, place) -> int:
        """Where the last of what it needs is made; of a derivative, where the derivatives in what
        is below the line are."""
        if place.formula is not None:
            return max(map(self._step, place.formula.places), default=0)
        if place.row != "derivative":
            return self.plan[place.row]
        by = place.by.row
        made = f"d_{by}" if by == "x" or by.startswith("activation.") else f"grad.{by}"
        return self.plan.get(made, self.plan[place.of.row])


def _row(place) -> int | None:
    """The observation that a place belongs to; None for all of them."""
    if place.row == "derivative":
        return _row(place.of)
    if place.formula is not None:
        rows = set(map(_row, place.formula.places)) - {None}
        return rows.pop() if len(rows) == 1 else None
    return place.index[0] if place.row.split(".")[0] in PER_ROW and place.index else None
