"""Bugs in Linear, in the containers and in what every module has."""

from compare.cases.case import Draw
from manual import nn
from tests.planted.bug import Arguments, Bug, edited
from tests.planted.cases import between, layers, regression, trained

PRODUCT = "np.dot(x.T, dy, out=dweight.T)"
BIAS = "np.dot(ones, dy, out=self.bias.overwrite_grad())"
MASKED = "np.multiply(dy, mask, out=self.new_empty(shape, dtype))"


def same_as_batch(draw: Draw) -> Arguments:
    """As many samples as outputs."""
    return regression(draw, draw.linear(5, 6), 6, 5)


def skipping(draw: Draw) -> Arguments:
    """Linear, a Residual of two modules, Linear."""
    inner = nn.Sequential(draw.linear(7, 7), nn.Tanh())
    net = nn.Sequential(draw.linear(5, 7), nn.Residual(inner), draw.linear(7, 4))
    return regression(draw, net)


def residual_first(draw: Draw) -> Arguments:
    return regression(draw, nn.Sequential(nn.Residual(draw.linear(5, 5)), draw.linear(5, 4)))


def flattened(draw: Draw) -> Arguments:
    return regression(draw, nn.Sequential(nn.Flatten(), draw.linear(6, 4)), 5, 3, 2)


BUGS = [
    # Linear, forward
    Bug(
        "Linear",
        "the bias forgotten",
        edited(nn.Linear.forward, "y += self.bias.data", "pass"),
        layers(),
        "activation.0",
    ),
    Bug(
        "Linear",
        "the bias subtracted",
        edited(nn.Linear.forward, "y += self", "y -= self"),
        layers(),
        "activation.0",
    ),
    Bug(
        "Linear",
        "x W for x Wᵀ (square)",
        edited(nn.Linear.forward, "weight.T,", "weight,"),
        layers(square=True),
        "activation.0",
    ),
    Bug(
        "Linear",
        "x Wᵀ with W's entries in another order",
        edited(
            nn.Linear.forward,
            "weight.T,",
            "weight.reshape(self.in_features, -1),",
        ),
        layers(),
        "activation.0",
    ),
    # Linear, dx
    Bug(
        "Linear",
        "dx = dy Wᵀ (square)",
        edited(nn.Linear.backward, "self.weight.data,", "self.weight.data.T,"),
        layers(square=True),
        "d_activation.1",
    ),
    Bug(
        "Linear",
        "dx = dy Wᵀ, which does not go (not square): the backward raises",
        edited(nn.Linear.backward, "self.weight.data,", "self.weight.data.T,"),
        layers(),
        "grad.2.weight",
    ),
    Bug(
        "Linear",
        "dx with W's entries in another order",
        edited(
            nn.Linear.backward,
            "self.weight.data,",
            "self.weight.data.T.reshape(self.out_features, -1),",
        ),
        layers(),
        "d_activation.1",
    ),
    Bug(
        "Linear",
        "dx with |W|",
        edited(nn.Linear.backward, "self.weight.data,", "np.abs(self.weight.data),"),
        layers(),
        "d_activation.1",
    ),
    # Linear, gradients
    Bug(
        "Linear",
        "dW transposed (square)",
        edited(nn.Linear.backward_parameters, PRODUCT, "dweight[...] = np.dot(x.T, dy)"),
        layers(square=True),
        "grad.2.weight",
    ),
    Bug(
        "Linear",
        "dW transposed and reshaped (not square)",
        edited(
            nn.Linear.backward_parameters,
            PRODUCT,
            "dweight[...] = np.dot(x.T, dy).reshape(dweight.shape)",
        ),
        layers(),
        "grad.2.weight",
    ),
    Bug(
        "Linear",
        "dW added to what was there",
        edited(nn.Linear.backward_parameters, PRODUCT, "dweight += np.dot(dy.T, x)"),
        layers(),
        "grad.2.weight",
    ),
    Bug(
        "Linear",
        "dW divided by the batch once more",
        edited(nn.Linear.backward_parameters, PRODUCT, "np.dot(x.T, dy / len(x), out=dweight.T)"),
        layers(),
        "grad.2.weight",
    ),
    Bug(
        "Linear",
        "dW all zero",
        edited(nn.Linear.backward_parameters, PRODUCT, "dweight[...] = 0"),
        layers(),
        "grad.2.weight",
    ),
    Bug(
        "Linear",
        "the median entry of dW off by 1 % (float32) or 1e-6 (float64)",
        edited(
            nn.Linear.backward_parameters,
            PRODUCT,
            f"{PRODUCT}\n"
            "    sizes = np.abs(dweight)\n"
            "    median = np.argsort(sizes, axis=None)[sizes.size // 2]\n"
            "    at = np.unravel_index(median, sizes.shape)\n"
            "    dweight[at] *= 1.01 if x.dtype == np.float32 else 1 + 1e-6",
        ),
        layers(),
        "grad.2.weight",
    ),
    Bug(
        "Linear",
        "dW from the input of the first forward, ever after",
        edited(nn.Linear.forward, "self.saved = ", "self.saved = self.saved or "),
        trained(layers()),
        "grad.2.weight",
        step=2,
    ),
    Bug(
        "Linear",
        "db the mean over the batch",
        edited(
            nn.Linear.backward_parameters,
            "np.dot(ones, dy",
            "np.dot(ones / len(x), dy",
        ),
        layers(),
        "grad.2.bias",
    ),
    Bug(
        "Linear",
        "db summed along the wrong axis",
        edited(
            nn.Linear.backward_parameters,
            "np.dot(ones, dy,",
            "np.dot(dy, ones,",
        ),
        same_as_batch,
        "grad.bias",
    ),
    Bug(
        "Linear",
        "db of the last sample alone",
        edited(nn.Linear.backward_parameters, BIAS, "self.bias.overwrite_grad()[...] = dy[-1]"),
        layers(),
        "grad.2.bias",
    ),
    Bug(
        "Linear",
        "db added to what was there",
        edited(nn.Linear.backward_parameters, BIAS, "self.bias.overwrite_grad()[...] += dy.sum(0)"),
        layers(),
        "grad.2.bias",
    ),
    # Sequential
    Bug(
        "Sequential",
        "the backward in the order of the forward (square)",
        edited(
            nn.Sequential.backward,
            "in reversed(self._children.values())",
            "in self._children.values()",
        ),
        layers(square=True),
        "d_activation.2",
    ),
    Bug(
        "Sequential",
        "the last module left out",
        edited(
            nn.Sequential.forward,
            "in self._children.values()",
            "in list(self._children.values())[:-1]",
        ),
        layers(square=True),
        "prediction",
    ),
    Bug(
        "Sequential",
        "backward_parameters goes through the first module twice (square)",
        edited(nn.Sequential.backward_parameters, "reversed(modules[1:])", "reversed(modules)"),
        layers(square=True),
        "grad.0.weight (backward_parameters)",
    ),
    # Residual
    Bug(
        "Residual",
        "the way around forgotten in the backward",
        edited(nn.Residual.backward, "np.add(dy,", "np.add(0,"),
        skipping,
        "d_activation.0",
    ),
    Bug(
        "Residual",
        "the way around forgotten in the forward",
        edited(nn.Residual.forward, "np.add(x,", "np.add(0,"),
        skipping,
        "activation.1",
    ),
    Bug(
        "Residual",
        "dy − f's dx",
        edited(nn.Residual.backward, "np.add(dy,", "np.subtract(dy,"),
        skipping,
        "d_activation.0",
    ),
    Bug(
        "Residual",
        "backward_parameters hands on 2 dy",
        edited(
            nn.Residual.backward_parameters,
            "backward_parameters(dy)",
            "backward_parameters(2 * dy)",
        ),
        residual_first,
        "grad.0.module.weight (backward_parameters)",
    ),
    # Flatten
    Bug(
        "Flatten",
        "column by column",
        edited(nn.Flatten.forward, "x.shape[end + 1 :])", 'x.shape[end + 1 :], order="F")'),
        flattened,
        "activation.0",
    ),
    Bug(
        "Flatten",
        "the backward column by column",
        edited(nn.Flatten.backward, "dy.reshape(shape)", 'dy.reshape(shape, order="F")'),
        flattened,
        "d_x",
    ),
    # Dropout
    Bug(
        "Dropout",
        "not divided by 1 − p",
        edited(nn.Dropout.forward, "mask *= 1 / (1 - self.p)", "pass"),
        between(nn.Dropout, p=0.3),
        "activation.1",
    ),
    Bug(
        "Dropout",
        "divided by p",
        edited(nn.Dropout.forward, "1 / (1 - self.p)", "1 / self.p"),
        between(nn.Dropout, p=0.3),
        "activation.1",
    ),
    Bug(
        "Dropout",
        "kept with probability p",
        edited(nn.Dropout.forward, "np.greater_equal(", "np.less("),
        between(nn.Dropout, p=0.3),
        "activation.1",
    ),
    Bug(
        "Dropout",
        "a new mask in the backward",
        edited(
            nn.Dropout.backward,
            MASKED,
            "dy * (mask.max() * (self.generator.random(shape) >= self.p)).astype(dtype)",
        ),
        between(nn.Dropout, p=0.3),
        "d_activation.0",
    ),
    Bug(
        "Dropout",
        "the mask forgotten in the backward",
        edited(nn.Dropout.backward, MASKED, "dy"),
        between(nn.Dropout, p=0.3),
        "d_activation.0",
    ),
]
