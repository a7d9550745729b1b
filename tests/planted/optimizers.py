"""Bugs in the optimizers."""

from functools import cache
from typing import Any

from compare.cases.case import Draw
from manual import optim
from manual.optim import lbfgs, line_search
from manual.optim.optimizer import Optimizer
from tests.planted.bug import Arguments, Bug, Case, Plant, edited
from tests.planted.cases import layers


@cache
def steps(kind: type, n: int, scale: float = 1.0, **options: Any) -> Case:
    """n steps of an optimizer; the loss's gradients are those of x and y of this scale."""

    def case(draw: Draw) -> Arguments:
        given = layers()(draw)
        own = kind(given["net"].parameters(), **options)
        scaled = {name: draw.dtype.type(scale) * given[name] for name in ("x", "y")}
        return given | scaled | {"optimizer": own, "steps": n}

    return case


def bug(
    kind: type,
    wrong: str,
    plant: Plant,
    step: int = 1,
    row: str = "updated.0.weight",
    blame: str = "manual",
    **options: Any,
) -> Bug:
    """One that shows in the given step, the last of its case."""
    case = steps(kind, step, **options)
    return Bug(kind.__name__, wrong, plant, case, row, blame, step)


SGD, ADAM, RMSPROP, ADAGRAD = (
    kind._update for kind in (optim.SGD, optim.Adam, optim.RMSprop, optim.Adagrad)
)
SECOND = {"max_iter": 2, "max_eval": 20}  # iterations of L-BFGS
SEARCHED = {"max_iter": 1, "max_eval": 20, "line_search_fn": "strong_wolfe"}
FADING = {"betas": (0.9, 0.3)}  # so that the mean of the squares falls

BUGS = [
    # SGD
    bug(optim.SGD, "uphill", edited(SGD, "theta -=", "theta +="), lr=0.1),
    bug(optim.SGD, "lr twice", edited(SGD, 'group["lr"], d', 'group["lr"] ** 2, d'), lr=0.1),
    bug(
        optim.SGD,
        "the first momentum dampened",
        edited(SGD, "v[...] = g", 'v[...] = (1 - group["dampening"]) * g'),
        momentum=0.9,
        dampening=0.3,
        lr=0.1,
    ),
    bug(
        optim.SGD,
        "the momentum starts at 0 in every step",
        edited(SGD, "v *= momentum", "v *= 0"),
        step=2,
        momentum=0.9,
        lr=0.1,
    ),
    bug(
        optim.SGD,
        "dampening for 1 − dampening",
        edited(SGD, '1 - group["dampening"]', 'group["dampening"]'),
        step=2,
        momentum=0.9,
        dampening=0.3,
        lr=0.1,
    ),
    bug(
        optim.SGD,
        "Nesterov: v + momentum · g",
        edited(SGD, "(momentum, v, out=work)", "(momentum, g, out=work)", "d += g", "d += v"),
        step=2,
        momentum=0.9,
        nesterov=True,
        lr=0.1,
    ),
    bug(
        optim.SGD,
        "maximize as minimize, with a weight decay",
        edited(Optimizer._gradient, "np.subtract(g, grad, out=g) if", "np.add(g, grad, out=g) if"),
        weight_decay=0.1,
        maximize=True,
        lr=0.1,
    ),
    # Adam
    bug(
        optim.Adam,
        "the bias correction of m a step ahead",
        edited(ADAM, "beta1**step", "beta1 ** (step + 1)"),
        lr=0.01,
    ),
    bug(
        optim.Adam,
        "the bias correction of v a step behind",
        edited(ADAM, "beta2**step", "beta2 ** max(step - 1, 1)"),
        step=2,
        lr=0.01,
    ),
    bug(
        optim.Adam,
        "no bias correction",
        edited(ADAM, "lr / (1 - beta1**step)", "lr"),
        lr=0.01,
    ),
    bug(
        optim.Adam,
        "eps inside the root",
        edited(
            ADAM,
            "np.sqrt(v, out=work)",
            'np.sqrt(v + group["eps"], out=work)',
            'work += group["eps"]',
            "pass",
        ),
        lr=0.01,
        eps=1e-3,
    ),
    bug(
        optim.Adam,
        "β₁ and β₂ exchanged",
        edited(ADAM, "lr, (beta1, beta2)", "lr, (beta2, beta1)"),
        step=2,
        lr=0.01,
    ),
    bug(
        optim.Adam,
        "v the mean of |g|",
        edited(ADAM, "work *= g  #", "work *= np.sign(g)  #"),
        lr=0.01,
    ),
    bug(
        optim.Adam,
        "amsgrad: the maximum forgotten",
        edited(
            ADAM,
            'v = np.maximum(state["max_exp_avg_sq"], v, out=state["max_exp_avg_sq"])',
            "pass",
        ),
        step=2,
        amsgrad=True,
        lr=0.1,
        **FADING,
    ),
    bug(
        optim.Adam,
        "maximize changes the sign of the weight decay, too",
        edited(
            ADAM,
            "g = self._gradient(theta, grad, group)",
            "g = -self._gradient(theta, -grad, group)",
        ),
        weight_decay=0.1,
        lr=0.01,
        maximize=True,
    ),
    # AdamW
    bug(
        optim.AdamW,
        "the decay through the gradient",
        edited(ADAM, 'if group["decoupled_weight_decay"]:', "if False:"),
        lr=0.01,
        weight_decay=0.1,
    ),
    bug(
        optim.AdamW,
        "the decay not times lr",
        edited(ADAM, '1 - lr * group["weight_decay"]', '1 - group["weight_decay"]'),
        lr=0.01,
        weight_decay=0.1,
    ),
    bug(
        optim.AdamW,
        "growth for decay",
        edited(ADAM, "theta *= 1 - lr", "theta *= 1 + lr"),
        lr=0.01,
        weight_decay=0.1,
    ),
    # RMSprop
    bug(
        optim.RMSprop,
        "α and 1 − α exchanged",
        edited(RMSPROP, "np.multiply(1 - alpha, g", "np.multiply(alpha, g"),
    ),
    bug(
        optim.RMSprop,
        "eps inside the root",
        edited(
            RMSPROP,
            '        np.sqrt(s, out=work)\n    work += group["eps"]',
            '        np.sqrt(s + group["eps"], out=work)',
        ),
        eps=1e-3,
    ),
    bug(
        optim.RMSprop,
        "the root forgotten",
        edited(RMSPROP, "np.sqrt(s, out=work)", "work[...] = s"),
    ),
    bug(
        optim.RMSprop,
        "centered: the square of the mean added",
        edited(RMSPROP, "np.subtract(s, work, out=work)", "np.add(s, work, out=work)"),
        centered=True,
        eps=1e-2,
    ),
    bug(
        optim.RMSprop,
        "the momentum forgotten",
        edited(RMSPROP, "b *= momentum", "b *= 0"),
        step=2,
        momentum=0.9,
    ),
    # Adagrad
    bug(
        optim.Adagrad,
        "only the last square",
        edited(ADAGRAD, "s += work", "s[...] = work"),
        step=2,
    ),
    bug(
        optim.Adagrad,
        "lr_decay a step ahead",
        edited(ADAGRAD, "(step - 1)", "step"),
        lr_decay=0.1,
    ),
    bug(
        optim.Adagrad,
        "eps inside the root",
        edited(
            ADAGRAD,
            "np.sqrt(s, out=work)",
            'np.sqrt(s + group["eps"], out=work)',
            'work += group["eps"]',
            "pass",
        ),
        eps=1e-3,
    ),
    bug(
        optim.Adagrad,
        "the root forgotten",
        edited(ADAGRAD, "np.sqrt(s, out=work)", "work[...] = s"),
    ),
    # Optimizer
    Bug(
        "Optimizer",
        "the state of all parameters counts as not yet begun",
        edited(
            optim.Optimizer._step,
            "updates = (state.steps[piece.indices[0]] or 0) + 1",
            "updates = 1",
        ),
        steps(optim.Adam, 2, lr=0.01),
        "updated.0.weight",
        step=2,
    ),
    Bug(
        "Optimizer",
        "a weight decay that is subtracted",
        edited(Optimizer._gradient, "else np.add(g, grad, out=g)", "else grad - g"),
        steps(optim.RMSprop, 1, weight_decay=0.1),
        "updated.0.weight",
    ),
    # LBFGS
    bug(
        optim.LBFGS,
        "the first step not shortened",
        edited(optim.LBFGS._minimize, "min(1.0, 1.0 / number(np.abs(g).sum())) * lr", "lr"),
        max_iter=1,
        scale=3.0,
    ),
    bug(
        optim.LBFGS,
        "uphill first",
        edited(optim.LBFGS._minimize, "d = -g", "d = g.copy()"),
        row="state.d",
        max_iter=1,
    ),
    bug(
        optim.LBFGS,
        "lr forgotten after the first step",
        edited(optim.LBFGS._minimize, "t = lr\n", "t = 1.0\n"),
        **SECOND,
        lr=0.5,
    ),
    bug(
        optim.LBFGS,
        "the first Hessian not inverted",
        edited(lbfgs._remember, "ys / number(np.dot(y, y))", "number(np.dot(y, y)) / ys"),
        row="state.d",
        **SECOND,
    ),
    bug(
        optim.LBFGS,
        "two loops: α + β",
        edited(lbfgs._direction, "(alpha - beta)", "(alpha + beta)"),
        row="state.d",
        **SECOND,
    ),
    bug(
        optim.LBFGS,
        "two loops: both from the oldest pair on",
        edited(lbfgs._direction, "in reversed(pairs)", "in pairs", "reversed(alphas)", "alphas"),
        row="state.d",
        max_iter=4,
        max_eval=20,
        lr=0.5,
    ),
    bug(
        optim.LBFGS,
        "line search: flat where the slope is c1 times that at first, not c2",
        edited(line_search.strong_wolfe, "<= -c2 * start", "<= -c1 * start"),
        **SEARCHED,
    ),
    bug(
        optim.LBFGS,
        "line search: 2 for 3 in the cubic",
        edited(line_search.cubic_minimum, "3 * (a.loss", "2 * (a.loss"),
        lr=100.0,
        **SEARCHED,
    ),
]
