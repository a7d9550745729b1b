"""What is recorded, in which file."""

from tests.compare.allowances.black_boxes import BLACK_BOXES
from tests.compare.allowances.losses import LOSSES
from tests.compare.allowances.modules import MODULES
from tests.compare.allowances.steps import PROBED, PROPAGATED, TOLERATED
from tests.compare.allowances.updates import UPDATES

PARTS = {
    "modules": MODULES,
    "losses": LOSSES,
    "updates": UPDATES,
    "black_boxes": BLACK_BOXES,
    "tolerance": TOLERATED,
    "propagation": PROPAGATED,
    "lbfgs": PROBED,
}
