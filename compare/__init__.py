"""Both sides on the same data: every tensor judged, with the reason beside the number."""

from compare.verdict import Comparison, EquivalenceError, assert_equivalent, compare

__all__ = ["Comparison", "EquivalenceError", "assert_equivalent", "compare"]
