"""The nudges against 40 digits, and which of the printed figures are wrong."""

import importlib.util
from pathlib import Path

import mpmath
import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "examples" / "nudges.py"
SPEC = importlib.util.spec_from_file_location("nudges", PATH)
nudges = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(nudges)

WRONG = {  # (observation, figure): as printed, and to three places
    (1, "∂a²/∂b2¹"): ("0.045", "0.047"),
    (1, "residual y − a²"): ("0.311", "0.390"),
    (1, "∂a²/∂w11², vector"): ("0.455", "0.475"),
    (1, "factor in −∇R"): ("0.311", "0.781"),
    (2, "∂a²/∂w11²"): ("0.455", "0.574"),
    (2, "∂a²/∂w12²"): ("0.622", "0.690"),
}
# Cut off, or made from figures that were rounded before: one unit of the last place off.
ROUNDING = {(1, "a²"): ("0.809", "0.810"), (2, "a2¹"): ("0.689", "0.690")}


def exact(x, w21="0.3", w22="0.5", b2="0.6"):
    """(a1¹, a2¹, a², the nine nudges) in 40 digits, by the chain rule written out."""
    with mpmath.workdps(40):
        x1, x2 = (mpmath.mpf(float(v)) for v in x)
        v1, v2, b = (mpmath.mpf(v) for v in ("0.6", "0.2", "0.4"))
        z1 = mpmath.mpf("0.2") * x1 + mpmath.mpf("0.4") * x2 + mpmath.mpf("0.1")
        z2 = mpmath.mpf(w21) * x1 + mpmath.mpf(w22) * x2 + mpmath.mpf(b2)
        a1, a2 = (1 / (1 + mpmath.exp(-z)) for z in (z1, z2))
        d1, d2 = (v * mpmath.exp(-z) / (1 + mpmath.exp(-z)) ** 2 for v, z in ((v1, z1), (v2, z2)))
        steps = [d1 * x1, d1 * x2, d1, d2 * x1, d2 * x2, d2, a1, a2, mpmath.mpf(1)]
        return tuple(float(v) for v in (a1, a2, v1 * a1 + v2 * a2 + b, *steps))


@pytest.mark.parametrize("k", [0, 1])
def test_figures_are_the_exact_ones(k):
    """Each is a few roundings from its decimal inputs, all of size 1 or 3: 16 eps."""
    found = nudges.figures(nudges.network())
    a1, a2, output, *steps = exact(nudges.X[k])
    near = {"rtol": 0, "atol": 16 * np.finfo(float).eps}
    np.testing.assert_allclose(found.hidden[k], [a1, a2], **near)
    np.testing.assert_allclose(found.output[k], output, **near)
    np.testing.assert_allclose(found.residual[k], [1.2, 0.7][k] - output, **near)
    np.testing.assert_allclose(found.nudges[k], steps, **near)


@pytest.mark.parametrize("k", [0, 1])
def test_three_ways_to_the_nudges_agree(k):
    """The central differences: h² f'''/6 of truncation and eps/h of rounding, both 1e-11, for
    h = 1e-5 and in case longdouble is float64; |f'''| ≤ |x|³ max|σ'''| · 0.6 < 3."""
    net, x = nudges.network(), nudges.X[k]
    own = nudges.nudges(net, x)
    np.testing.assert_allclose(nudges.torch_nudges(net, x), own, rtol=0, atol=4e-15)
    np.testing.assert_allclose(nudges.differences(net, x), own, rtol=0, atol=1e-10)
    assert nudges.network().state_dict().keys() == net.state_dict().keys()
    for name, value in nudges.network().state_dict().items():
        assert np.array_equal(net.state_dict()[name], value)


def test_the_gradient_is_the_sum_over_both_observations():
    net = nudges.network()
    expected = np.zeros(9)
    for x, (y,) in zip(nudges.X, nudges.Y, strict=True):
        _, _, output, *steps = exact(x)
        expected += -2 * (y - output) * np.array(steps)
    own = nudges.gradient(net, nudges.X, nudges.Y)
    np.testing.assert_allclose(own, expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(
        nudges.torch_gradient(net, nudges.X, nudges.Y), own, rtol=0, atol=1e-14
    )
    order = [nudges.NAMES[i] for i in np.argsort(-np.abs(expected))]
    assert order == ["b1²", "w11¹", "w12¹", "w12²", "w11²", "w21¹", "w22¹", "b1¹", "b2¹"]


# w21¹, w22¹ and b2¹ are lost: any that give z2¹ = 0.5 and 0.8 give the same figures.
@pytest.mark.parametrize("lost", [(0.3, 0.5, 0.6), (0.6, 0.9, 0.5), (0, 0.1, 0.7)], ids=str)
def test_the_wrong_printed_figures(lost):
    claims = nudges.claims(nudges.figures(nudges.network(lost)))
    assert len(claims) == len({(c.observation, c.what) for c in claims}) == 23
    for mark, expected in (("wrong", WRONG), ("rounding", ROUNDING)):
        found = [c for c in claims if c.mark == mark]
        assert {(c.observation, c.what): (c.printed, f"{c.exact:.3f}") for c in found} == expected
        assert all(c.why for c in found)
    for c in claims:
        if c.mark == "exact":
            assert not c.why
            assert f"{c.exact:.{len(c.printed.partition('.')[2])}f}" == c.printed


def test_every_claim_is_held_against_its_own_figure():
    """The exact value of each claim, found by its name."""
    rows = [exact(x) for x in nudges.X]
    names = ["a1¹", "a2¹", "a²", *(f"∂a²/∂{name}" for name in nudges.NAMES)]
    for claim in nudges.claims(nudges.figures(nudges.network())):
        values = dict(zip(names, rows[claim.observation - 1], strict=True))
        values["residual y − a²"] = (1.2, 0.7)[claim.observation - 1] - values["a²"]
        values["factor in −∇R"] = 2 * values["residual y − a²"]
        expected = values[claim.what.removesuffix(", text").removesuffix(", vector")]
        assert abs(claim.exact - expected) <= 1e-14


@pytest.mark.parametrize(
    ("printed", "value", "mark"),
    [
        ("0.5", 0.549, "exact"),
        ("0.5", 0.551, "rounding"),
        ("0.5", 0.69, "rounding"),
        ("0.5", 0.71, "wrong"),
        ("-0.094", -0.0944, "exact"),
        ("-0.094", 0.0944, "wrong"),
        ("1", 1.4, "exact"),
        ("0.50", 0.549, "wrong"),
    ],
)
def test_marks(printed, value, mark):
    assert nudges.Claim(1, "", printed, value).mark == mark


def test_statements():
    net = nudges.network()
    statements = nudges.statements(net, nudges.figures(net))
    assert [holds for _, holds, _ in statements] == [False, True, True, False, False]
    _, _, output, *steps = exact(nudges.X[0])
    assert statements[2][2].startswith(f"{-2 * (1.2 - output) * steps[0]:.4f}")
    assert statements[3][2].startswith(f"{-2 * (1.2 - output) * steps[6]:.4f}")
    assert f"{steps[3]:.3f} η" in statements[4][2]


def test_what_it_prints(run_example):
    lines = run_example("nudges")[0].splitlines()
    marked = [line.split() for line in lines if line.startswith((" 1 ", " 2 "))]
    assert len(marked) == 23
    wrong = [
        (int(words[0]), words[words.index("wrong") - 2]) for words in marked if "wrong" in words
    ]
    assert wrong == [(observation, printed) for (observation, _), (printed, _) in WRONG.items()]
    net = nudges.network()
    for k, name in enumerate(nudges.NAMES):
        (line,) = (line for line in lines if line.split()[:1] == [name] and len(line.split()) == 5)
        both = (nudges.nudges(net, x)[k] for x in nudges.X)
        slope = -nudges.gradient(net, nudges.X, nudges.Y)[k]
        assert line.split()[1:4] == [f"{value:.6f}" for value in (*both, slope)]
    assert "b1² matters most, w11¹ next" in "\n".join(lines)
    assert any("lost w21¹, w22¹ and b2¹: taken as 0.3, 0.5 and 0.6" in line for line in lines)
