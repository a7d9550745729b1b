"""Random right sheets have nothing wrong; a random slip is found, and what follows from it is no
new mistake."""

from decimal import Decimal

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from compare.worked import mark, parse
from tests.compare.worked.random_sheets import claims, formats, networks, shown, values

few = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to make one small takes minutes
)


def unit(printed):
    return float(Decimal(1).scaleb(Decimal(printed).as_tuple().exponent))


@few
@given(st.data())
def test_no_right_figure_is_wrong(data):
    text = data.draw(networks())
    found = values(text)
    places = data.draw(st.lists(st.sampled_from(list(found)), min_size=1, unique=True))
    figures = {place: shown(found[place], *data.draw(formats())) for place in places}
    marking = mark(parse(text + claims(figures)))
    assert {m.mark for m in marking.claims} <= {"exact"}, marking.frame
    assert marking.passed
    assert marking.verdict == f"{len(places)} of {len(places)} right"


def slipped(data, found, places):
    """(a place, its figure changed by 1 % or more and by more than two units of its last)."""
    place = data.draw(st.sampled_from(places))
    printed = shown(found[place], *data.draw(formats(2)))
    units = data.draw(st.integers(3, 400)) * data.draw(st.sampled_from([-1, 1]))
    one = Decimal(1).scaleb(Decimal(printed).as_tuple().exponent)
    wrong = Decimal(printed) + units * one
    assume(abs(units * one) >= abs(Decimal(printed)) / 100)
    assume(abs(wrong) < 10**6)
    return place, f"{wrong}"


@few
@given(st.data())
def test_a_slip_is_found_among_right_figures(data):
    text = data.draw(networks())
    found = values(text)
    places = data.draw(st.lists(st.sampled_from(list(found)), min_size=1, unique=True))
    place, printed = slipped(data, found, places)
    figures = {p: shown(found[p]) for p in places} | {place: printed}
    marking = mark(parse(text + claims(figures)))
    assert [m.claim.printed for m in marking.claims if m.mark == "wrong"] == [printed]
    assert not marking.passed


@few
@given(st.data())
def test_what_follows_from_a_slip_follows(data):
    text = data.draw(networks())
    right = values(text)
    earlier = [p for p in right if not p[0].startswith("updated.") and p[0] != "loss"]
    (row, index), printed = slipped(data, right, earlier)
    if "entropy" in text:  # whose prediction must stay between 0 and 1
        last = max(p[0] for p in right if p[0].startswith("activation."))
        assume(row != last)
    carried = values(text, ((row, index), float(printed)))
    figures = {p: shown(v) for p, v in carried.items()} | {(row, index): printed}
    marking = mark(parse(text + claims(figures)))
    wrong = [m for m in marking.claims if m.mark == "wrong"]
    assert [m.claim.printed for m in wrong] == [printed], marking.frame
    (slip,) = wrong
    for m in marking.claims:
        assert m.mark in ("exact", "rounding", "follows", "wrong")
        if m.mark == "follows":
            assert m.follows == (slip.claim.label,)
            assert abs(m.exact - float(m.claim.printed)) > unit(m.claim.printed)
