"""How far rounding alone can move a result: a rule for every module, loss and optimizer."""

from compare.rounding import activations
from compare.rounding.ball import Ball, Rounding
from compare.rounding.clipping import clip_rule
from compare.rounding.losses import loss_rule
from compare.rounding.modules import buffer_rule, rule, to_use_up
from compare.rounding.optimizers import update_rule
from compare.rounding.schedules import rate_rule

__all__ = [
    "Ball",
    "Rounding",
    "activations",
    "buffer_rule",
    "clip_rule",
    "loss_rule",
    "rate_rule",
    "rule",
    "to_use_up",
    "update_rule",
]
