"""Sheets for the page: one with every kind of mark, one with several rows and hostile names, one
with several outputs, one without a step, one too large to draw, and small ones of everything."""

from itertools import pairwise

import numpy as np

from tests.compare.worked.problem_1b import PROBLEM_1B

HOMEWORK = (
    PROBLEM_1B
    + """[names]
w1 = "0.weight[0,0]"
w2 = "0.weight[0,1]"
w3 = "0.weight[1,0]"
w4 = "0.weight[1,1]"
w5 = "0.weight[2,0]"
w6 = "0.weight[2,1]"
w7 = "2.weight[0,0]"
w8 = "2.weight[0,1]"
w9 = "2.weight[0,2]"
b1 = "0.bias[0]"
b2 = "0.bias[1]"
b3 = "0.bias[2]"
b4 = "2.bias[0]"
z1 = "activation.0[0,0]"
z2 = "activation.0[0,1]"
z3 = "activation.0[0,2]"
a1 = "activation.1[0,0]"
a2 = "activation.1[0,1]"
a3 = "activation.1[0,2]"
z4 = "activation.2[0,0]"
a4 = "activation.3[0,0]"
[claims.forward]
z1 = 0.6
a1 = 0.646
z4 = 0.1
a4 = 0.525
loss = 0.113
[claims.derivative]
"a4 / z4" = 0.250
[claims.backward]
a4 = -0.4751
b4 = -0.119
w7 = -0.077
w8 = -0.077
w9 = 0.067
w1 = -0.0271
b2 = 0.0271
[claims.updated]
w1 = 0.5027
w3 = 0.4973
w9 = -0.0067
b4 = 0.112
b1 = 0.1027
"""
)
HOSTILE = """
title = "Two rows <script>alert(1)</script> & \\"quoted\\" 'so'"
source = "</title><img src=x onerror=alert(2)>"
[network]
layers = [2, 2, 1]
activations = ["sigmoid", "identity"]
loss = "sum_squared_error"
[[network.parameters]]
weight = [[0.2, 0.4], [0.3, 0.5]]
bias = [0.1, 0.6]
[[network.parameters]]
weight = [[0.6, 0.2]]
bias = [0.4]
[data]
x = [[3, -2], [-1, 1]]
y = [[1.2], [0.7]]
[step]
optimizer = "adam"
lr = 0.1
weight_decay = 0.5
frozen = ["2.bias"]
[names]
w11 = "0.weight[0,0]"
[claims.forward]
"activation.3[0,0]" = 0.809
"activation.1[0,0]" = 0.475
"activation.3[1,0]" = 0.88
"activation.1[1,0]" = 0.455
[claims.derivative]
"activation.3[0,0] / 0.bias[1]" = 0.045
"activation.3[1,0] / 2.weight[0,0]" = 0.455
"""
DEEP = """
title = "A 2-3-2-2 net"
source = "lecture"
[network]
layers = [2, 3, 2, 2]
activations = ["tanh", "sigmoid", "softmax"]
loss = "mean_squared_error"
[[network.parameters]]
weight = [[0.21, -0.43], [0.3, 0.5], [-1.25, 0.75]]
bias = [0.1, 0.6, -0.5]
[[network.parameters]]
weight = [[0.6, 0.2, -0.35], [1.5, -2, 0.125]]
bias = [0.4, 0]
[[network.parameters]]
weight = [[0.6, 0.2], [1.5, -2]]
bias = [0.4, 0.25]
[data]
x = [[3, -2]]
y = [[1, 0]]
[step]
optimizer = "sgd"
lr = 0.1
[claims.forward]
loss = 0.25
"""
SOFTMAX = """
title = "Softmax"
source = "lecture"
[network]
layers = [3]
activations = ["softmax"]
[data]
x = [[5, 4, 2]]
[claims.forward]
"activation.0[0,0]" = 0.71
"activation.0[0,1]" = 0.26
"activation.0[0,2]" = 0.04
"""


def random(layers, activations, loss, rows=1, seed=0, lr=0.1, extra="") -> str:
    """A sheet with random numbers, whose only claim is its first activation, made up."""
    generator = np.random.default_rng(seed)

    def numbers(*shape):
        return np.round(generator.normal(size=shape) / 2, 2).tolist()

    parameters = "".join(
        f"[[network.parameters]]\nweight = {numbers(b, a)}\nbias = {numbers(b)}\n"
        for a, b in pairwise(layers)
    )
    y = np.round(generator.uniform(0.1, 0.9, (rows, layers[-1])), 2).tolist()
    if loss == "cross_entropy":
        y = generator.integers(0, layers[-1], rows).tolist()
    return f"""
title = "{"-".join(map(str, layers))}, {loss}"
source = "made up"
[network]
layers = {list(layers)}
activations = {str(list(activations)).replace("'", '"')}
loss = "{loss}"
{parameters}
[data]
x = {numbers(rows, layers[0])}
y = {y}
[step]
optimizer = "sgd"
lr = {lr}
{extra}
[claims.forward]
"activation.0[0,0]" = 0.123
"""


LARGE = random((2, 30, 1, 30), ("relu", "tanh", "identity"), "cross_entropy", rows=2)
