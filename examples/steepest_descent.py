"""Steepest descent finds a minimum; which one, and whether, depends on the start and the step.

The lecture's function f(x) = 3x⁴ + 5x³ − 20x² + 8x + 10 has two minima with a maximum between
them. Steepest descent, x ← x − lr f'(x), goes to one of the minima. Newton–Raphson, which takes
1/f''(x) for lr, needs far fewer steps, but goes to the maximum just as willingly. Near a minimum
the error is multiplied by 1 − lr f'' in each step: where lr > 2 / f'' it grows, so a step that
suits one minimum can be too large for the other.

The lecture's f(x1, x2) = x1⁴ x2² + (x1 − 1)² (x2 − 1)⁴ is 0 at (1, 0) and at (0, 1). At (1, 0) it
is a bowl, and descent is quick. At (0, 1) it has no curvature at all, and descent crawls for ever.

    python examples/steepest_descent.py [FOLDER]      the picture: FOLDER/steepest_descent.png
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from benchmarks.plot import folder, save
from manual import newton_raphson, steepest_descent
from manual.descent import Descent

F = np.array([3.0, 5.0, -20.0, 8.0, 10.0])  # f, the highest power first
PRINTED = np.array([12.0, 15.0, -40.0, 8.0])  # f' as the lecture prints it
LR, STARTS = 0.01, (-3.0, -1.5, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0)
LRS = (0.005, 0.01, 0.015, 0.02, 0.04, 0.05)
LR2 = 0.02
STARTS2 = ((2.0, -0.5), (1.2, 0.3), (0.5, 0.5), (1.2, 1.2), (-0.5, 1.5))
DESCENT, NEWTON = "#d95f02", "#1b6ca8"


def f(x: float) -> float:
    return np.polyval(F, x)


def gradient(x: float) -> float:
    return np.polyval(PRINTED, x)


def curvature(x: float) -> float:
    return np.polyval(np.polyder(PRINTED), x)


def f2(x: np.ndarray) -> float:
    return x[0] ** 4 * x[1] ** 2 + (x[0] - 1) ** 2 * (x[1] - 1) ** 4


def gradient2(x: np.ndarray) -> np.ndarray:
    a, b = x[0] - 1, x[1] - 1
    return np.array(
        [4 * x[0] ** 3 * x[1] ** 2 + 2 * a * b**4, 2 * x[0] ** 4 * x[1] + 4 * a**2 * b**3]
    )


def hessian2(x: np.ndarray) -> np.ndarray:
    a, b = x[0] - 1, x[1] - 1
    mixed = 8 * x[0] ** 3 * x[1] + 8 * a * b**3
    return np.array(
        [
            [12 * x[0] ** 2 * x[1] ** 2 + 2 * b**4, mixed],
            [mixed, 2 * x[0] ** 4 + 12 * a**2 * b**2],
        ]
    )


def print_derivative() -> np.ndarray:
    """Check the printed derivative, and return the three stationary points, left to right."""
    x, h = np.linspace(-3.5, 2.5, 61), 1e-5
    gap = np.abs((f(x + h) - f(x - h)) / (2 * h) - gradient(x)).max()
    right = "right" if np.array_equal(PRINTED, np.polyder(F)) else "wrong"
    print("f(x) = 3x^4 + 5x^3 - 20x^2 + 8x + 10")
    print(f"f'(x) = 12x^3 + 15x^2 - 40x + 8, as the lecture prints it, is {right};")
    print(f"  its largest distance from central differences on [-3.5, 2.5]: {gap:.1e}")
    stationary = np.sort(np.roots(PRINTED))
    print("Where f' = 0 (numpy.roots):")
    for x in stationary:
        kind = f"minimum, 2/f'' = {2 / curvature(x):.4f}" if curvature(x) > 0 else "maximum"
        print(f"  x = {x:8.5f}  f = {f(x):9.5f}  f'' = {curvature(x):9.4f}  {kind}")
    return stationary


def print_starts() -> None:
    print()
    print(f"          steepest descent, lr = {LR}     Newton-Raphson")
    print("   start         x   iterations           x   iterations  kind")
    for start in STARTS:
        down = steepest_descent(gradient, start, lr=LR)
        newton = newton_raphson(gradient, curvature, start)
        print(
            f"{start:8.1f}  {down.x:8.5f}   {down.iterations:10}    {newton.x:8.5f}   "
            f"{newton.iterations:10}  {newton.kind}"
        )


def print_steps() -> None:
    print()
    print("A fixed step converges to a minimum only while it is below 2/f'' there:")
    print("     lr  start  reason           iterations  last iterates")
    for lr in LRS:
        for start in (0.0, 2.0):
            down = steepest_descent(gradient, start, lr=lr)
            last = "  ".join(f"{x:.5g}" for x in down.trace[-3:])
            print(f"{lr:7}  {start:5}  {down.reason:<15}  {down.iterations:10}  {last}")


def print_plane(paths: dict[tuple[float, float], tuple[Descent, Descent]]) -> None:
    print()
    print("f(x1, x2) = x1^4 x2^2 + (x1 - 1)^2 (x2 - 1)^4")
    print(f"      start  steepest descent, lr = {LR2}    Newton-Raphson")
    print("            iterations             end        f  iter.             end  kind")
    for start, (down, newton) in paths.items():
        limit = " " if down.converged else "*"
        print(
            f"{start[0]:5}, {start[1]:4} {down.iterations:10}{limit} {point(down.x)}"
            f"  {f2(down.x):.1e}{newton.iterations:7}  {point(newton.x)} {newton.kind}"
        )
    print("* stopped at the limit of iterations, still moving")


def point(x: np.ndarray) -> str:
    return ", ".join(f"{value:6.3f}" for value in np.round(x, 3) + 0.0)  # −0 + 0 is 0


def draw_quartic(axes: Axes) -> None:
    x = np.linspace(-3.4, 2.5, 500)
    axes.plot(x, f(x), color="black", linewidth=1.2)
    for start in STARTS:
        trace = steepest_descent(gradient, start, lr=LR).trace
        if start <= 2.5:
            axes.plot(trace, f(trace), "o-", color=DESCENT, alpha=0.6, markersize=4, linewidth=0.8)
    axes.set(xlabel="x", ylabel="f(x)", title=f"steepest descent, lr = {LR}")


def draw_ends(axes: Axes, stationary: np.ndarray) -> None:
    """Where each start ends."""
    starts = np.linspace(-3.4, 3, 257)
    ends = np.array(
        [
            (steepest_descent(gradient, s, lr=LR).x, newton_raphson(gradient, curvature, s).x)
            for s in starts
        ]
    )
    for x in stationary:
        axes.axhline(x, color="black", linewidth=0.5, alpha=0.5)
    axes.plot(starts, ends[:, 0], "o", color=DESCENT, markersize=5, alpha=0.5)
    axes.plot(starts, ends[:, 1], ".", color=NEWTON, markersize=3)
    axes.annotate("the maximum", (3, stationary[1]), (0, 3), textcoords="offset points", ha="right")
    axes.set(xlabel="start", ylabel="end", title="who ends where")
    axes.plot([], [], "o", color=DESCENT, label="steepest descent")
    axes.plot([], [], ".", color=NEWTON, label="Newton–Raphson")
    axes.legend(frameon=False, loc="center")


def draw_errors(axes: Axes, minimum: float) -> None:
    """The distance from the right minimum, iteration by iteration."""
    for k, lr in enumerate((0.005, 0.015, 0.04, 0.05)):
        trace = steepest_descent(gradient, 1.5, lr=lr, max_iterations=60).trace
        style = {"color": DESCENT, "alpha": 0.4 + 0.2 * k}
        axes.semilogy(np.abs(trace - minimum), label=f"lr = {lr}", linewidth=0.8 + 0.6 * k, **style)
    error = np.abs(newton_raphson(gradient, curvature, 1.5).trace - minimum)
    axes.semilogy(error, ".-", color=NEWTON, label="Newton–Raphson")
    axes.set(xlabel="iteration", ylabel="distance from the minimum", title="from x = 1.5")
    axes.set(xlim=(-3, 90), ylim=(1e-10, 10))
    axes.legend(frameon=False, loc="lower right", fontsize=8)


def draw_plane(axes: Axes, paths: dict[tuple[float, float], tuple[Descent, Descent]]) -> None:
    x1, x2 = np.meshgrid(np.linspace(-1, 2.2, 321), np.linspace(-0.8, 1.8, 261))
    levels = np.logspace(-4, 2, 19)
    heights = np.clip(f2(np.stack([x1, x2])), levels[0], levels[-1])
    axes.contour(x1, x2, heights, levels, norm=LogNorm(), cmap="Greys_r", linewidths=0.6)
    for down, newton in paths.values():
        axes.plot(*newton.trace.T, ".--", color=NEWTON, linewidth=1, markersize=5)
        axes.plot(*down.trace.T, ".-", color=DESCENT, linewidth=1.2, markersize=3)
        axes.plot(*down.trace[0], "o", color="black", markersize=5)
    axes.set(xlim=(-1, 2.2), ylim=(-0.8, 1.8), xlabel="$x_1$", ylabel="$x_2$")
    axes.set_title(f"$x_1^4 x_2^2 + (x_1 - 1)^2 (x_2 - 1)^4$, lr = {LR2}")


def main(out: Path) -> None:
    paths = {
        start: (
            steepest_descent(gradient2, np.array(start), lr=LR2),
            newton_raphson(gradient2, hessian2, np.array(start)),
        )
        for start in STARTS2
    }
    stationary = print_derivative()
    print_starts()
    print_steps()
    print_plane(paths)

    figure = Figure(figsize=(11, 9), dpi=120, layout="constrained")
    quartic, ends, errors, plane = figure.subplots(2, 2).flat
    draw_quartic(quartic)
    draw_ends(ends, stationary)
    draw_errors(errors, stationary[2])
    draw_plane(plane, paths)
    for axes in figure.axes:
        axes.title.set_fontsize(11)
        axes.spines[["top", "right"]].set_visible(False)
    path = out / "steepest_descent.png"
    save(figure, path)
    print(f"\npicture: {path}")


if __name__ == "__main__":
    main(folder(__doc__))
