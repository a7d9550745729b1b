"""Bugs in the activations made of straight pieces: above all, at their kinks."""

from compare.cases.case import Draw
from manual import nn
from tests.planted.bug import Arguments, Bug, edited
from tests.planted.cases import alone, between, declared, onto, trained

FORWARD, BACKWARD = "activation.1", "d_activation.0"


def ties(draw: Draw) -> Arguments:
    """Maxout of pairs of which several are equal."""
    x = draw.normal(6, 4, 2)
    x[::2, :, 1] = x[::2, :, 0]
    return onto(draw, nn.Maxout(2), x.reshape(6, 8), nn.HalfSquaredError())


PASS_ON = "_kept(active, dy, self.new_empty(dy.shape, dy.dtype))"

BUGS = [
    # ReLU
    Bug(
        "ReLU",
        "slope 1 at exactly 0",
        edited(nn.ReLU.forward, "active[...] = y", "active[...] = x >= 0"),
        alone(nn.ReLU),
        "d_x",
    ),
    Bug(
        "ReLU",
        "the absolute value",
        edited(nn.ReLU.forward, "np.maximum(x, zeros, ", "np.abs(x, "),
        between(nn.ReLU),
        FORWARD,
    ),
    Bug(
        "ReLU",
        "dy goes through everywhere",
        edited(nn.ReLU.backward, PASS_ON, "dy"),
        between(nn.ReLU),
        BACKWARD,
    ),
    Bug(
        "ReLU",
        "cut off where dy is negative, not y",
        edited(nn.ReLU.backward, "_kept(active", "_kept(dy > 0"),
        between(nn.ReLU),
        BACKWARD,
    ),
    Bug(
        "ReLU",
        "the mask of the first forward, ever after",
        edited(nn.ReLU.forward, "self.saved = ", "self.saved = self.saved or "),
        trained(between(nn.ReLU), steps=3, lr=1.0),
        BACKWARD,
        step=2,
    ),
    # LeakyReLU
    Bug(
        "LeakyReLU",
        "slope 1 at exactly 0",
        edited(nn.LeakyReLU.forward, "np.greater(x", "np.greater_equal(x"),
        alone(nn.LeakyReLU, negative_slope=0.3),
        "d_x",
    ),
    Bug(
        "LeakyReLU",
        "nothing leaks in the backward",
        edited(nn.LeakyReLU.backward, "_product(slope,", "np.multiply(slope == 1,"),
        between(nn.LeakyReLU, negative_slope=0.3),
        BACKWARD,
    ),
    Bug(
        "LeakyReLU",
        "always the default slope",
        edited(nn.LeakyReLU.forward, "= self.negative_slope", "= 0.01"),
        between(nn.LeakyReLU, negative_slope=0.3),
        FORWARD,
    ),
    # PReLU
    Bug(
        "PReLU",
        "dw from the positive side",
        edited(nn.PReLU.backward_parameters, "np.logical_not(below, out=below)", "pass"),
        between(nn.PReLU),
        "grad.1.weight",
    ),
    Bug(
        "PReLU",
        "dw the mean over the batch",
        edited(nn.PReLU.backward_parameters, ".sum(axis=over)", ".mean(axis=over)"),
        between(nn.PReLU),
        "grad.1.weight",
    ),
    Bug(
        "PReLU",
        "dw of all channels together",
        edited(nn.PReLU.backward_parameters, " if k != 1 or self.num_parameters == 1", ""),
        between(nn.PReLU, num_parameters=7),
        "grad.1.weight",
    ),
    Bug(
        "PReLU",
        "w forgotten in dx",
        edited(nn.PReLU.backward, "_product(slope,", "np.multiply(slope == 1,"),
        between(nn.PReLU),
        BACKWARD,
    ),
    # Step
    Bug(
        "Step",
        "0 at exactly 0",
        edited(nn.Step.forward, "x.dtype.type(1)", "x.dtype.type(0)"),
        declared(alone(nn.Step), "d_x"),
        "activation",
    ),
    Bug(
        "Step",
        "dy goes through",
        edited(nn.Step.backward, "dx[...] = 0", "dx[...] = dy"),
        declared(alone(nn.Step), "d_x"),
        "d_x",
    ),
    # Maxout
    Bug(
        "Maxout",
        "the smallest",
        edited(nn.Maxout.forward, "parts.argmax", "parts.argmin", "parts.max", "parts.min"),
        alone(nn.Maxout, 6, 8),
        "activation",
    ),
    Bug(
        "Maxout",
        "dy to all pieces",
        edited(
            nn.Maxout.backward,
            "np.equal(first[..., None], array_module(dy).arange(self.pieces), out=largest)",
            "largest[...] = True",
        ),
        alone(nn.Maxout, 6, 8),
        "d_x",
    ),
    Bug(
        "Maxout",
        "dy to the last of several that are equal",
        edited(
            nn.Maxout.forward,
            "parts.argmax(axis=-1, out=first)",
            "first[...] = self.pieces - 1 - parts[..., ::-1].argmax(axis=-1)",
        ),
        ties,
        "d_x",
    ),
    Bug(
        "Maxout",
        "pieces that do not lie side by side",
        edited(
            nn.Maxout.forward,
            "x.shape[-1] // self.pieces, self.pieces)",
            "self.pieces, x.shape[-1] // self.pieces).swapaxes(-1, -2)",
        ),
        alone(nn.Maxout, 6, 8),
        "activation",
    ),
]
