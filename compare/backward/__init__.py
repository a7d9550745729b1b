"""`check_backward`: any hand-written backward, judged against torch's autograd.

functions.py has the two that are given, observed.py calls the hand-written pair in every way,
expected.py says what must come out, and check.py judges.
"""

from compare.backward.check import check_backward

__all__ = ["check_backward"]
