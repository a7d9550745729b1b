"""Bugs in the smooth activations, and in the softmax."""

from compare.cases.case import Draw
from manual import nn
from manual.nn import activations, softmax
from tests.planted.bug import Arguments, Bug, edited
from tests.planted.cases import alone, between, onto, trained

FORWARD, BACKWARD = "activation.1", "d_activation.0"
STALE = "self.saved = self.saved or "


def nearly_one(draw: Draw) -> Arguments:
    """LogSigmoid of inputs from 4 to 12."""
    return onto(draw, nn.LogSigmoid(), draw.uniform(4, 12, 6, 5), nn.HalfSquaredError())


def beyond_exp(draw: Draw) -> Arguments:
    """Softmax of logits about 1000."""
    return onto(draw, nn.Softmax(1), 1000 + draw.normal(6, 5), nn.HalfSquaredError())


BUGS = [
    # Identity
    Bug(
        "Identity",
        "the cotangent forgotten, 1 in its place",
        edited(nn.Identity.backward, "return dy", "return np.ones_like(dy)"),
        between(nn.Identity),
        BACKWARD,
    ),
    Bug(
        "Identity",
        "half of the digits lost on the way",
        edited(
            nn.Identity.forward,
            "return x",
            "half = np.float16 if x.dtype == np.float32 else np.float32\n"
            "    return x.astype(half).astype(x.dtype)",
        ),
        between(nn.Identity),
        FORWARD,
    ),
    # Sigmoid
    Bug(
        "Sigmoid",
        "1 − y missing in the derivative",
        edited(nn.Sigmoid.backward, "(y * (1 - y))", "y"),
        between(nn.Sigmoid),
        BACKWARD,
    ),
    Bug(
        "Sigmoid",
        "y − 1 for 1 − y",
        edited(nn.Sigmoid.backward, "(1 - y)", "(y - 1)"),
        between(nn.Sigmoid),
        BACKWARD,
    ),
    Bug(
        "Sigmoid",
        "e^x for e^−x",
        edited(activations.sigmoid, "np.exp(-x)", "np.exp(x)"),
        between(nn.Sigmoid),
        FORWARD,
    ),
    Bug(
        "Sigmoid",
        "the derivative at the output of the first forward, ever after",
        edited(nn.Sigmoid.forward, "self.saved = ", STALE),
        trained(between(nn.Sigmoid)),
        BACKWARD,
        step=2,
    ),
    Bug(
        "Sigmoid",
        "x for y in y (1 − y)",
        edited(nn.Sigmoid.forward, "self.saved = (y,)", "self.saved = (x,)"),
        between(nn.Sigmoid),
        BACKWARD,
    ),
    # LogSigmoid
    Bug(
        "LogSigmoid",
        "σ(x) for σ(−x) in the derivative",
        edited(nn.LogSigmoid.backward, "sigmoid(-x)", "sigmoid(x)"),
        between(nn.LogSigmoid),
        BACKWARD,
    ),
    Bug(
        "LogSigmoid",
        "max for min",
        edited(nn.LogSigmoid.forward, "np.minimum", "np.maximum"),
        between(nn.LogSigmoid),
        FORWARD,
    ),
    Bug(
        "LogSigmoid",
        "log(1 + e) for log1p(e): digits lost for large x",
        edited(nn.LogSigmoid.forward, "np.log1p(", "np.log(1 + "),
        nearly_one,
        "activation",
    ),
    # Tanh
    Bug(
        "Tanh",
        "1 − y for 1 − y²",
        edited(nn.Tanh.backward, "(1 - y * y)", "(1 - y)"),
        between(nn.Tanh),
        BACKWARD,
    ),
    Bug(
        "Tanh",
        "sign of the derivative",
        edited(nn.Tanh.backward, "(1 - y * y)", "(y * y - 1)"),
        alone(nn.Tanh, 3, 4, 2),
        "d_x",
    ),
    Bug(
        "Tanh",
        "x for y in 1 − y²",
        edited(nn.Tanh.forward, "self.saved = (y,)", "self.saved = (x,)"),
        between(nn.Tanh),
        BACKWARD,
    ),
    # Arctan
    Bug(
        "Arctan",
        "the root of 1 + x²",
        edited(nn.Arctan.backward, "(1 + x * x)", "np.sqrt(1 + x * x)"),
        between(nn.Arctan),
        BACKWARD,
    ),
    Bug(
        "Arctan",
        "degrees",
        edited(nn.Arctan.forward, "np.arctan(x)", "np.degrees(np.arctan(x))"),
        between(nn.Arctan),
        FORWARD,
    ),
    # ELU
    Bug(
        "ELU",
        "at 0 the slope of the right side",
        edited(nn.ELU.backward, "np.where(x > 0", "np.where(x >= 0"),
        alone(nn.ELU, alpha=0.3),
        "d_x",
    ),
    Bug(
        "ELU",
        "α forgotten in the forward",
        edited(nn.ELU.forward, "self.alpha * np.expm1", "np.expm1"),
        between(nn.ELU, alpha=0.3),
        FORWARD,
    ),
    Bug(
        "ELU",
        "y for y + α in the derivative",
        edited(nn.ELU.backward, "self.alpha * np.exp(", "self.alpha * np.expm1("),
        between(nn.ELU),
        BACKWARD,
    ),
    # Softplus
    Bug(
        "Softplus",
        "not divided by β",
        edited(nn.Softplus.forward, "curve / self.beta", "curve"),
        between(nn.Softplus, beta=2.5),
        FORWARD,
    ),
    Bug(
        "Softplus",
        "β too much in the derivative",
        edited(nn.Softplus.backward, "sigmoid(t)", "self.beta * sigmoid(t)"),
        between(nn.Softplus, beta=2.5),
        BACKWARD,
    ),
    Bug(
        "Softplus",
        "the threshold for x instead of βx",
        edited(nn.Softplus.forward, "t, t > self.threshold", "t, x > self.threshold"),
        alone(nn.Softplus, beta=2.5, threshold=4.0),
        "d_x",
    ),
    # SiLU
    Bug(
        "SiLU",
        "the product rule forgotten: σ alone",
        edited(nn.SiLU.backward, "(s * (1 + x * sigmoid(-x)))", "s"),
        between(nn.SiLU),
        BACKWARD,
    ),
    Bug(
        "SiLU",
        "σ(x) for σ(−x) in the derivative",
        edited(nn.SiLU.backward, "x * sigmoid(-x)", "x * sigmoid(x)"),
        between(nn.SiLU),
        BACKWARD,
    ),
    Bug(
        "SiLU",
        "0 on the negative side",
        edited(nn.SiLU.forward, "np.asarray(x * s)", "np.maximum(x, 0) * s"),
        alone(nn.SiLU),
        "activation",
    ),
    # GELU
    Bug(
        "GELU",
        "the product rule forgotten: Φ alone",
        edited(nn.GELU.backward, "(phi + x * slope)", "phi"),
        between(nn.GELU),
        BACKWARD,
    ),
    Bug(
        "GELU",
        "0.0447 for 0.044715",
        edited(activations._tanh_approximation, '"0.044715"', '"0.0447"'),
        alone(nn.GELU, approximate="tanh"),
        "activation",
    ),
    Bug(
        "GELU",
        "the exact Φ where the approximation is asked for",
        edited(nn.GELU.forward, 'if self.approximate == "none" else', "if True else"),
        alone(nn.GELU, approximate="tanh"),
        "activation",
    ),
    Bug(
        "GELU",
        "the 3 of the inner derivative forgotten",
        edited(activations._tanh_approximation, "(1 + 3 * square)", "(1 + square)"),
        alone(nn.GELU, approximate="tanh"),
        "d_x",
    ),
    # Softmax
    Bug(
        "Softmax",
        "the diagonal of the Jacobian alone",
        edited(
            nn.Softmax.backward,
            "dx = dx - (dx * y).sum(axis=axis, keepdims=True)",
            "dx = dx - dx * y",
        ),
        between(nn.Softmax, dim=1),
        BACKWARD,
    ),
    Bug(
        "Softmax",
        "over the wrong dimension",
        edited(nn.Softmax.forward, 'axis = _axis(self, "softmax", x.ndim)', "axis = 0"),
        alone(nn.Softmax, 3, 4, 2, dim=1),
        "activation",
    ),
    Bug(
        "Softmax",
        "dy not weighted by y in the sum",
        edited(nn.Softmax.backward, "(dx * y).sum(", "dx.sum("),
        alone(nn.Softmax, dim=1),
        "d_x",
    ),
    Bug(
        "Softmax",
        "the maximum not subtracted: ∞/∞",
        edited(nn.Softmax.forward, "_below_maximum(np.atleast_1d(x), axis)", "np.atleast_1d(x)"),
        beyond_exp,
        "activation",
    ),
    # LogSoftmax
    Bug(
        "LogSoftmax",
        "y for e^y in the derivative",
        edited(nn.LogSoftmax.backward, "np.exp(y)", "y"),
        between(nn.LogSoftmax, dim=1),
        BACKWARD,
    ),
    Bug(
        "LogSoftmax",
        "mean for sum in the backward",
        edited(nn.LogSoftmax.backward, "dx.sum(", "dx.mean("),
        alone(nn.LogSoftmax, dim=1),
        "d_x",
    ),
    Bug(
        "LogSoftmax",
        "the sum over the wrong dimension",
        edited(nn.LogSoftmax.forward, "log_sum(np.exp(y), axis)", "log_sum(np.exp(y), 0)"),
        alone(nn.LogSoftmax, 5, 5, dim=1),
        "activation",
    ),
    Bug(
        "LogSoftmax",
        "the logarithm of 1 in the sum forgotten",
        edited(softmax.log_sum, "np.log1p(others", "np.log(others"),
        alone(nn.LogSoftmax, dim=1),
        "activation",
    ),
]
