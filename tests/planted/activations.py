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
        edited(nn.Sigmoid.backward, "dx *= y", "dx[...] = y"),
        between(nn.Sigmoid),
        BACKWARD,
    ),
    Bug(
        "Sigmoid",
        "y − 1 for 1 − y",
        edited(nn.Sigmoid.backward, "np.subtract(1, y", "np.subtract(y, 1"),
        between(nn.Sigmoid),
        BACKWARD,
    ),
    Bug(
        "Sigmoid",
        "e^x for e^−x",
        edited(activations.sigmoid, "np.negative(x", "np.positive(x"),
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
        edited(nn.LogSigmoid.backward, "np.negative(x", "np.positive(x"),
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
        edited(nn.Tanh.backward, "np.multiply(y, y", "np.multiply(1, y"),
        between(nn.Tanh),
        BACKWARD,
    ),
    Bug(
        "Tanh",
        "sign of the derivative",
        edited(nn.Tanh.backward, "np.subtract(1, dx", "np.subtract(dx, 1"),
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
        edited(nn.Arctan.backward, "dx += 1", "np.sqrt(1 + dx, out=dx)"),
        between(nn.Arctan),
        BACKWARD,
    ),
    Bug(
        "Arctan",
        "degrees",
        edited(nn.Arctan.forward, "return np.arctan(x, ", "return np.degrees(np.arctan(x), "),
        between(nn.Arctan),
        FORWARD,
    ),
    # ELU
    Bug(
        "ELU",
        "at 0 the slope of the right side",
        edited(nn.ELU.backward, "np.greater(x", "np.greater_equal(x"),
        alone(nn.ELU, alpha=0.3),
        "d_x",
    ),
    Bug(
        "ELU",
        "α forgotten in the forward",
        edited(nn.ELU.forward, "y *= self.alpha", "pass"),
        between(nn.ELU, alpha=0.3),
        FORWARD,
    ),
    Bug(
        "ELU",
        "y for y + α in the derivative",
        edited(nn.ELU.backward, "np.exp(", "np.expm1("),
        between(nn.ELU),
        BACKWARD,
    ),
    # Softplus
    Bug(
        "Softplus",
        "not divided by β",
        edited(nn.Softplus.forward, "y /= self.beta", "pass"),
        between(nn.Softplus, beta=2.5),
        FORWARD,
    ),
    Bug(
        "Softplus",
        "β too much in the derivative",
        edited(nn.Softplus.backward, "np.putmask(dx", "dx *= self.beta\n    np.putmask(dx"),
        between(nn.Softplus, beta=2.5),
        BACKWARD,
    ),
    Bug(
        "Softplus",
        "the threshold for x instead of βx",
        edited(nn.Softplus.forward, "t, linear", "t, x > self.threshold"),
        alone(nn.Softplus, beta=2.5, threshold=4.0),
        "d_x",
    ),
    # SiLU
    Bug(
        "SiLU",
        "the product rule forgotten: σ alone",
        edited(nn.SiLU.backward, "dx *= s", "dx[...] = s"),
        between(nn.SiLU),
        BACKWARD,
    ),
    Bug(
        "SiLU",
        "σ(x) for σ(−x) in the derivative",
        edited(nn.SiLU.backward, "np.negative(x", "np.positive(x"),
        between(nn.SiLU),
        BACKWARD,
    ),
    Bug(
        "SiLU",
        "0 on the negative side",
        edited(nn.SiLU.forward, "np.multiply(x", "np.multiply(np.maximum(x, 0)"),
        alone(nn.SiLU),
        "activation",
    ),
    # GELU
    Bug(
        "GELU",
        "the product rule forgotten: Φ alone",
        edited(nn.GELU.backward, "dx += phi", "dx[...] = phi"),
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
        edited(activations._tanh_approximation, "square *= 3", "pass"),
        alone(nn.GELU, approximate="tanh"),
        "d_x",
    ),
    # Softmax
    Bug(
        "Softmax",
        "the diagonal of the Jacobian alone",
        edited(nn.Softmax.backward, "np.dot(ones, terms, out=sums)", "terms"),
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
        edited(nn.Softmax.backward, "np.dot(ones, terms", "np.dot(ones, dx"),
        alone(nn.Softmax, dim=1),
        "d_x",
    ),
    Bug(
        "Softmax",
        "the maximum not subtracted: ∞/∞",
        edited(nn.Softmax.forward, "subtract_maximum(y, self.new_empty)", "pass"),
        beyond_exp,
        "activation",
    ),
    # LogSoftmax
    Bug(
        "LogSoftmax",
        "y for e^y in the derivative",
        edited(
            nn.LogSoftmax.backward, "np.exp(y, out=self.new_empty(y.shape, y.dtype))", "y.copy()"
        ),
        between(nn.LogSoftmax, dim=1),
        BACKWARD,
    ),
    Bug(
        "LogSoftmax",
        "mean for sum in the backward",
        edited(nn.LogSoftmax.backward, "np.dot(ones, dx, out=sums)", "np.mean(dx, 0, out=sums)"),
        alone(nn.LogSoftmax, dim=1),
        "d_x",
    ),
    Bug(
        "LogSoftmax",
        "the sum over the wrong dimension",
        edited(nn.LogSoftmax.forward, 'axis = _axis(self, "log_softmax", x.ndim)', "axis = 0"),
        alone(nn.LogSoftmax, 5, 5, dim=1),
        "activation",
    ),
    Bug(
        "LogSoftmax",
        "the logarithm of 1 in the sum forgotten",
        edited(softmax.sum_and_log, "np.log1p(more", "np.log(more"),
        alone(nn.LogSoftmax, dim=1),
        "activation",
    ),
]
