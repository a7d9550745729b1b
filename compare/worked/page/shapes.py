"""What a drawing is made of. Lengths are in CSS pixels."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Size:
    """What differs between a wide and a narrow window."""

    name: str
    width: float  # of the drawing, where the network lets it
    radius: float
    font: float  # of texts beside nodes and on edges
    value: float  # of the figure in a node
    gap: float  # the most between two columns' circles


WIDE = Size("wide", 760, 33, 13, 16, 210)
NARROW = Size("narrow", 358, 27, 11.5, 13, 150)
NARROWER = Size("narrow", 358, 25, 10.5, 12, 150)


@dataclass(frozen=True)
class Text:
    """`on` and `off`: the first step that shows it, and the first that no longer does."""

    x: float
    y: float
    label: str  # what it is
    text: str  # the figure
    place: str
    on: int
    off: int | None = None
    mark: str = ""  # of the claim about it, where it is wrong or follows
    row: int | None = None
    kind: str = "side"  # side; value: in a node or in the box of the loss
    width: float = 0


@dataclass(frozen=True)
class Circle:
    x: float
    y: float
    name: str
    lit: tuple[int, ...]


@dataclass(frozen=True)
class Edge:
    x1: float
    y1: float
    x2: float
    y2: float
    lit: tuple[int, ...]


@dataclass
class Drawing:
    """One that is only a little too wide shrinks to fit; a wider one is moved sideways."""

    size: Size
    width: float = 0
    height: float = 0
    circles: list[Circle] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    loss: tuple[float, float, float, float] | None = None  # a box: x, y, width, height
    loss_lit: tuple[int, ...] = ()

    @property
    def shrinks(self) -> bool:
        return self.width <= 1.15 * self.size.width
