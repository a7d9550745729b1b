"""The homework's problem 1b as the tests of sheets have it: all but names and claims."""

PROBLEM_1B = """
title = "Problem 1b"
source = "homework"
[network]
layers = [2, 3, 1]
activations = ["sigmoid", "sigmoid"]
loss = "half_squared_error"
[[network.parameters]]
weight = [[0.5, -0.25], [0.5, -0.25], [0.5, -0.25]]
bias = [0.1, 0.1, 0.1]
[[network.parameters]]
weight = [[1, -1, 0]]
bias = [0.1]
[data]
x = [[1, 0]]
y = [[1]]
[step]
optimizer = "sgd"
lr = 0.1
"""
