"""Optimizers, schedules and clipping, torch name for name."""

from manual.optim import lr_scheduler
from manual.optim.adagrad import Adagrad
from manual.optim.adam import Adam, AdamW
from manual.optim.clip import clip_grad_norm_, clip_grad_value_
from manual.optim.lbfgs import LBFGS
from manual.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, StepLR
from manual.optim.optimizer import Optimizer
from manual.optim.rmsprop import RMSprop
from manual.optim.sgd import SGD

__all__ = [
    "LBFGS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "CosineAnnealingLR",
    "ExponentialLR",
    "Optimizer",
    "RMSprop",
    "StepLR",
    "clip_grad_norm_",
    "clip_grad_value_",
    "lr_scheduler",
]
