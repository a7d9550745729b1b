"""Bugs that no formula shows: wrong dtypes and shapes, NaN, what is missing, and what is changed
that belongs to others."""

from compare.cases.case import Draw
from manual import nn
from tests.planted.bug import Arguments, Bug, edited
from tests.planted.cases import between, layers, onto, regression

OTHER = "(np.float64 if {0}.dtype == np.float32 else np.float32)"
PRODUCT = "np.dot(x.T, dy, out=dweight.T)"
DX = "return dx.reshape(shape)"


def one_output(draw: Draw) -> Arguments:
    """Where (N, 1) and (N,) would broadcast to (N, N)."""
    return regression(draw, draw.linear(5, 1))


def first(draw: Draw) -> Arguments:
    """Tanh, which nothing comes before, and Linear."""
    return regression(draw, nn.Sequential(nn.Tanh(), draw.linear(5, 4)))


def one_layer(draw: Draw) -> Arguments:
    return onto(draw, draw.linear(5, 4), draw.normal(6, 5), nn.MSELoss())


BUGS = [
    # dtypes
    Bug(
        "Linear",
        "y in another dtype",
        edited(
            nn.Linear.forward,
            "return y",
            f"return y.astype{OTHER.format('x')}",
        ),
        one_layer,
        "activation",
    ),
    Bug(
        "Tanh",
        "dx in another dtype",
        edited(
            nn.Tanh.backward,
            "return dx",
            f"return dx.astype{OTHER.format('y')}",
        ),
        layers(),
        "d_activation.0",
    ),
    Bug(
        "MSELoss",
        "the loss in another dtype",
        edited(
            nn.MSELoss.forward,
            "return total / difference.size",
            f"return {OTHER.format('total')}(total / difference.size)",
        ),
        layers(),
        "loss",
    ),
    # shapes
    Bug(
        "Linear",
        "y of shape (N,) for (N, 1)",
        edited(nn.Linear.forward, "return y", "return y.reshape(-1)"),
        one_output,
        "activation",
    ),
    Bug(
        "Linear",
        "dx with one dimension too many",
        edited(nn.Linear.backward, DX, "return dx.reshape(1, *shape)"),
        layers(),
        "d_activation.1",
    ),
    Bug(
        "Tanh",
        "dx of one sample for all",
        edited(nn.Tanh.backward, "return dx", "return dx[:1]"),
        layers(),
        "d_activation.0",
    ),
    # NaN and ∞
    Bug(
        "Tanh",
        "one NaN in y",
        edited(nn.Tanh.forward, "self.saved", "y[2, 3] = np.nan\n    self.saved"),
        layers(),
        "activation.1",
    ),
    Bug(
        "Linear",
        "one NaN in dW",
        edited(nn.Linear.backward_parameters, PRODUCT, f"{PRODUCT}\n    dweight[1, 2] = np.nan"),
        layers(),
        "grad.2.weight",
    ),
    Bug(
        "Linear",
        "one ∞ in dx",
        edited(nn.Linear.backward, DX, f"dx[1, 2] = np.inf\n    {DX}"),
        layers(),
        "d_activation.1",
    ),
    Bug(
        "MSELoss",
        "a loss that is no number",
        edited(nn.MSELoss.forward, "return total / difference.size", "return np.nan * total"),
        layers(),
        "loss",
    ),
    # missing
    Bug(
        "Linear",
        "db not written",
        edited(
            nn.Linear.backward_parameters,
            "np.dot(ones, dy, out=self.bias.overwrite_grad())",
            "pass",
        ),
        layers(),
        "grad.2.bias",
    ),
    Bug(
        "Linear",
        "dW written into an array of its own",
        edited(
            nn.Linear.backward_parameters,
            "self.weight.overwrite_grad()",
            "np.empty_like(self.weight.data)",
        ),
        layers(),
        "grad.2.weight",
    ),
    Bug(
        "Tanh",
        "no forward",
        edited(nn.Tanh.forward, "self.saved = (y,)", "raise NotImplementedError"),
        layers(),
        "activation.1",
    ),
    Bug(
        "Tanh",
        "no backward",
        edited(nn.Tanh.backward, "(y,) = self.recall()", "raise NotImplementedError"),
        layers(),
        "d_activation.0",
    ),
    # changed
    Bug(
        "Tanh",
        "its input overwritten by its output",
        edited(nn.Tanh.forward, "self.new_empty(x.shape, x.dtype)", "x"),
        layers(),
        "activation.0 (changed)",
    ),
    Bug(
        "Tanh",
        "x overwritten by its output",
        edited(nn.Tanh.forward, "self.new_empty(x.shape, x.dtype)", "x"),
        first,
        "x (changed)",
    ),
    Bug(
        "Tanh",
        "dy overwritten by dx",
        edited(nn.Tanh.backward, "return dx", "dy[...] = dx\n    return dy"),
        layers(),
        "d_activation.1 (changed)",
    ),
    Bug(
        "Linear",
        "the weight halved after it was used",
        edited(nn.Linear.forward, "y += self", "self.weight.data *= 0.5\n        y += self"),
        layers(),
        "0.weight (changed)",
    ),
    Bug(
        "Linear",
        "the weight halved by the backward",
        edited(nn.Linear.backward, DX, f"self.weight.data *= 0.5\n    {DX}"),
        layers(),
        "0.weight (changed)",
    ),
    Bug(
        "Linear",
        "the saved input, which is the output of the module before, cleared",
        edited(nn.Linear.backward, DX, f"x[...] = 0\n    {DX}"),
        layers(),
        "x (changed)",
    ),
    Bug(
        "MSELoss",
        "the target overwritten by the difference",
        edited(nn.MSELoss.forward, "self._new(prediction)", "target"),
        layers(),
        "y (changed)",
    ),
    Bug(
        "MSELoss",
        "the prediction overwritten by the difference",
        edited(nn.MSELoss.forward, "self._new(prediction)", "prediction"),
        layers(),
        "prediction (changed)",
    ),
    # what every parameter and module has
    Bug(
        "Parameter",
        "an assigned gradient added to the one before",
        edited(nn.Parameter.grad.fset, "self._grad[...] =", "self._grad[...] +="),
        between(nn.BatchNorm1d, num_features=7),
        "grad.1.weight",
    ),
]
