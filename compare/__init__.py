"""Both sides on the same data: every tensor judged, with the reason beside the number."""

from compare.backward import check_backward
from compare.comparison import Comparison, EquivalenceError
from compare.verdict import assert_equivalent, compare

__all__ = ["Comparison", "EquivalenceError", "assert_equivalent", "check_backward", "compare"]
