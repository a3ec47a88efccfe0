"""Intervals and paired comparisons against formulas integrated, enumerated or solved independently."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from linnet.evaluate import Rate, mean, perplexity, rate, worse
from linnet.evaluate.intervals import t_quantile

Z = 1.959963984540054


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 20), (19, 20), (20, 20), (3, 7), (480, 1000)])
def test_a_shares_interval_is_where_the_score_test_stops_rejecting(k: int, n: int) -> None:
    """Wilson's ends solve |k/n − p| = z·sqrt(p(1 − p)/n)."""

    def outside(p: float) -> float:
        return abs(k / n - p) - Z * math.sqrt(p * (1 - p) / n)

    got = rate(k, n)
    assert got.value == k / n
    assert got.n == n
    for end, exact in ((got.low, 0.0), (got.high, 1.0)):
        assert end == exact if k / n == exact else outside(end) == pytest.approx(0, abs=1e-12)
    assert got.low <= got.value <= got.high


def test_a_share_of_nothing_is_not_a_number_and_an_impossible_one_is_refused() -> None:
    assert math.isnan(rate(0, 0).value)
    assert math.isnan(rate(0, 0).high)
    for k, n in ((3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="no share"):
            rate(k, n)


@pytest.mark.parametrize("freedom", [1, 2, 5, 9, 10, 11, 29, 119, 5000])
def test_students_quantile_leaves_a_fortieth_above_it(freedom: int) -> None:
    """The density integrated from 0 to the quantile is 0.475 (Simpson)."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)

    def density(t: float) -> float:
        return scale * (1 + t * t / freedom) ** (-(freedom + 1) / 2)

    top, steps = t_quantile(freedom), 4000
    width = top / steps
    weights = (1 if i in (0, steps) else 4 if i % 2 else 2 for i in range(steps + 1))
    area = width / 3 * math.fsum(w * density(i * width) for i, w in enumerate(weights))
    assert area == pytest.approx(0.475, abs=1e-6)


def test_intervals_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    for k, n in ((0, 9), (7, 9), (93, 120), (500, 500)):
        theirs = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
        assert rate(k, n)[2:] == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    draw = random.Random(1)
    for n in (2, 5, 12, 400):
        values = [draw.gauss(3, 2) for _ in range(n)]
        theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        assert mean(values)[2:] == pytest.approx((theirs.low, theirs.high), rel=1e-5)


def test_a_mean_of_one_has_no_interval_and_of_none_no_value() -> None:
    assert mean([2.0]) == Rate(2.0, 1, -math.inf, math.inf)
    assert math.isnan(mean([]).value)
    assert mean([4.0, 4.0, 4.0]) == Rate(4.0, 3, 4.0, 4.0)


def test_nineteen_of_twenty_intervals_hold_the_true_figure() -> None:
    draw = random.Random(7)
    held = {"share": 0, "mean": 0, "perplexity": 0}
    runs = 2000
    for _ in range(runs):
        got = rate(sum(draw.random() < 0.9 for _ in range(60)), 60)
        held["share"] += got.low <= 0.9 <= got.high
        got = mean([draw.expovariate(1.0) + draw.gauss(0, 1) for _ in range(40)])
        held["mean"] += got.low <= 1.0 <= got.high
        # A document's tokens go together: its own loss a token is drawn once.
        tokens = [draw.randint(20, 200) for _ in range(40)]
        losses = [count * draw.gauss(2.0, 0.3) for count in tokens]
        got = perplexity(losses, tokens)
        held["perplexity"] += got.low <= math.exp(2.0) <= got.high
    for name, count in held.items():
        assert 0.93 < count / runs < 0.975, name


def test_perplexity_weighs_documents_by_their_tokens() -> None:
    got = perplexity([10.0, 300.0], [10, 100])
    assert got.value == pytest.approx(math.exp(310 / 110))
    assert got.n == 2
    same = perplexity([20.0, 40.0, 60.0], [10, 20, 30])  # every token alike, so there is no spread
    assert same == pytest.approx((math.exp(2), 3, math.exp(2), math.exp(2)))
    assert perplexity([9e5, 8e5], [10, 10]).value == math.inf
    with pytest.raises(ValueError, match="no tokens"):
        perplexity([0.0], [0])
    with pytest.raises(ValueError, match="2 losses and 1"):
        perplexity([1.0, 2.0], [5])


def test_of_right_and_wrong_only_the_items_that_changed_decide() -> None:
    """By every way the changes can fall: McNemar's p, counted out."""
    for lost, gained in itertools.product(range(9), range(4)):
        changed = lost + gained
        outcomes = itertools.product((0, 1), repeat=changed)
        as_far = sum(abs(2 * sum(one) - changed) >= abs(lost - gained) for one in outcomes)
        p = as_far / 2**changed
        before = [1.0] * lost + [0.0] * gained + [1.0] * 50 + [0.0] * 9
        after = [0.0] * lost + [1.0] * gained + [1.0] * 50 + [0.0] * 9
        assert worse(before, after) == (lost > gained and p < 0.05), (lost, gained, p)
        assert worse(after, before) == (gained > lost and p < 0.05)


def test_scores_are_compared_item_by_item() -> None:
    """A fall much smaller than the items' own variety is seen, because every item fell."""
    draw = random.Random(3)
    before = [draw.gauss(0, 10) for _ in range(30)]
    after = [score - 0.1 + draw.gauss(0, 0.05) for score in before]
    assert worse(before, after)
    assert not worse(after, before)
    assert worse(after, before, lower_is_better=True)
    mixed = [score + draw.gauss(0, 3) for score in before]
    stats = pytest.importorskip("scipy.stats")
    for other in (after, mixed, before[::-1]):
        test = stats.ttest_rel(before, other)
        assert worse(before, other) == (test.pvalue < 0.05 and test.statistic > 0)


def test_chance_is_not_called_a_regression() -> None:
    draw = random.Random(5)
    false = 0
    for _ in range(1000):
        before = [float(draw.random() < 0.8) for _ in range(80)]
        after = [float(draw.random() < 0.8) for _ in range(80)]
        false += worse(before, after)
    assert false <= 25  # one side of 5%


def test_what_was_not_judged_is_left_out_and_rounding_is_no_regression() -> None:
    before, after = [1.0, None, 1.0, math.nan, 1.0], [1.0, 0.0, None, 0.0, 1.0]
    assert not worse(before, after)
    assert not worse([], [])
    assert not worse([0.5], [0.1])  # one item tells nothing
    tiny = [2.0 - 1e-13, 3.0 - 1e-13, 4.0 - 1e-13]
    assert not worse([2.0, 3.0, 4.0], tiny)
    assert worse([2.5, 3.5, 4.5], [2.0, 3.0, 4.0])  # all by the same half: no spread, no chance
    with pytest.raises(ValueError, match="only the same items"):
        worse([1.0], [1.0, 0.0])


def test_for_people() -> None:
    assert rate(111, 120).percent() == "92.5% (86.4 to 96.0, n 120)"
    assert str(mean([1.0, 2.0, 3.0])) == "2 (-0.4841 to 4.484, n 3)"
