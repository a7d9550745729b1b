"""Others that train the same network on a CPU: JAX (`pip install handgrad[peers]`) and
scikit-learn."""

import os

import numpy as np

from benchmarks.steps.contestant import Contestant, LeftOut
from benchmarks.steps.problem import CROSS_ENTROPY, LR, Problem, setup


def jax_jit(problem: Problem) -> Contestant:
    """value_and_grad and the update in one jitted function that reuses the memory of the weights
    (donate_argnums). Each step is waited for, or it would run beside the next one's dispatch."""
    os.environ.setdefault("NPROC", "1")  # the threads of JAX, read once, when it starts
    try:
        import jax
        from jax import numpy as jnp
    except ImportError:
        raise LeftOut("jax is not installed; pip install 'handgrad[peers]'") from None
    jax.config.update("jax_enable_x64", True)  # lets float64 be; changes no array made as float32
    functions = {
        "relu": jax.nn.relu,
        "sigmoid": jax.nn.sigmoid,
        "tanh": jnp.tanh,
        "identity": lambda z: z,
    }
    made, cpu = setup(problem), jax.devices("cpu")[0]
    crossed = problem.loss == CROSS_ENTROPY
    x, y = (jax.device_put(np.array(t), cpu) for t in (made.x, made.y))
    start = [(m.weight.data.T.copy(), m.bias.data.copy()) for m in made.layers]
    names = [name for name, module in made.net.named_children() if module in made.layers]

    def loss_of(weights):
        a = x
        for (w, b), activation in zip(weights, problem.activations, strict=True):
            a = functions[activation](a @ w + b)
        if not crossed:
            return ((a - y) ** 2).sum() / 2
        of_target = jnp.take_along_axis(a, y[:, None], axis=1)[:, 0]
        return (jax.nn.logsumexp(a, axis=1) - of_target).mean()

    def update(weights):
        loss, gradients = jax.value_and_grad(loss_of)(weights)
        return jax.tree.map(lambda p, g: p - LR * g, weights, gradients), loss

    update = jax.jit(update, donate_argnums=0)
    weights = None

    def restart() -> None:
        nonlocal weights
        weights = jax.tree.map(lambda p: jax.device_put(jnp.array(p, copy=True), cpu), start)

    def step() -> None:
        nonlocal weights
        weights, loss = update(weights)
        loss.block_until_ready()

    def results() -> dict[str, np.ndarray]:
        found = {}
        for name, (w, b) in zip(names, weights, strict=True):
            found |= {f"updated.{name}.weight": np.array(w).T, f"updated.{name}.bias": np.array(b)}
        return found

    restart()
    return Contestant(step, restart, results)


def scikit_learn(problem: Problem) -> Contestant:
    """MLPClassifier.partial_fit, plain SGD without momentum or penalty."""
    from sklearn.neural_network import MLPClassifier  # slow to import

    if problem.loss != CROSS_ENTROPY:
        raise LeftOut(f"{problem.network}: its MLPRegressor has no activation after its last layer")
    if problem.widths[-1] < 3:
        raise LeftOut(f"{problem.network}: its MLPClassifier has a single output for two classes")
    made = setup(problem)
    classifier = MLPClassifier(
        problem.widths[1:-1],
        activation={"sigmoid": "logistic"}.get(problem.activation, problem.activation),
        solver="sgd",
        alpha=0,
        batch_size=problem.batch,
        learning_rate_init=LR,
        shuffle=False,
        momentum=0,
        nesterovs_momentum=False,
    )
    classifier.partial_fit(made.x, made.y, classes=np.arange(problem.widths[-1]))
    names = [name for name, module in made.net.named_children() if module in made.layers]
    own = {}
    for name, w, b in zip(names, classifier.coefs_, classifier.intercepts_, strict=True):
        own |= {f"{name}.weight": w.T, f"{name}.bias": b}

    def restart() -> None:
        for name, value in made.net.state_dict().items():
            own[name][...] = value

    restart()
    return Contestant(
        lambda: classifier.partial_fit(made.x, made.y),
        restart,
        lambda: {f"updated.{name}": value.copy() for name, value in own.items()},
    )
