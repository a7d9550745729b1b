"""The third witness: what is right, from the textbook's forward formulas and differences alone.

No formula here is one of a backward, of manual's or of torch's: outputs are computed from
definitions of their own in extended precision, derivatives are central differences of these.
"""

from compare.oracle.differences import derivative
from compare.oracle.witness import Witness

__all__ = ["Witness", "derivative"]
