"""The six runs of the homework's problem 2, and the test figures that it prints for them."""

from typing import NamedTuple

# Of the homework's two classes. Its precision and recall are of the second: with its accuracy they
# make 52 % of the images positive, and 958 of MNIST's 1,850 are sixes.
DIGITS = (5, 6)


class Figures(NamedTuple):
    """On the test images. None: not printed."""

    accuracy: float
    loss: float
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None


class Part(NamedTuple):
    """One run. initial: of the weights, a key of `study.INITIAL`; stops: early stopping;
    binary: two digits and one sigmoid output, or all ten and softmax."""

    name: str
    initial: str
    stops: bool
    binary: bool
    homework: Figures


PARTS = (
    Part("no early stopping", "default", False, True, Figures(0.9869, 0.0448)),
    Part("early stopping", "default", True, True,
         Figures(0.98815, 0.0507, 0.9837, 0.9935, 0.9886)),
    Part("random normal", "normal", True, True,
         Figures(0.9821, 0.056, 0.9791, 0.9865, 0.9828)),
    Part("He normal", "he", True, True, Figures(0.9848, 0.048, 0.9865, 0.9842, 0.9853)),
    Part("Glorot uniform", "glorot", True, True,
         Figures(0.9863, 0.046, 0.9854, 0.9883, 0.9868)),
    Part("ten digits", "default", True, False, Figures(0.97, 0.112, 0.9697, 0.9697, 0.9696)),
)  # fmt: skip


def printed(part: Part, digits: tuple[int, int]) -> Figures | None:
    """The homework's figures for the part, if they are of these digits; of these the other way
    round only accuracy and loss, for precision and recall are then those of the other digit."""
    if not part.binary or digits == DIGITS:
        return part.homework
    if digits == DIGITS[::-1]:
        return Figures(part.homework.accuracy, part.homework.loss)
    return None
