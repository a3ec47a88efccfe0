"""A mixture holds its weights exactly, is a pure function of the number, and serves no sequence twice."""

from __future__ import annotations

import hashlib
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnet.config import RequestError
from linnet.data.mixture import LARGEST_BLOCK, SMALL_BLOCK, Mixture, block_of, exactly
from linnet.data.settings import DataSettings


def fractions(*weights: float) -> list[Fraction]:
    total = sum(map(exactly, weights), Fraction(0))
    return [exactly(weight) / total for weight in weights]


SMOL = fractions(0.435, 0.435, 0.1, 0.03)


def served(mixture: Mixture, count: int) -> list[tuple[int, int]]:
    sources, indices = mixture.locate(np.arange(count))
    return list(zip(sources.tolist(), indices.tolist(), strict=True))


def limits(*sizes: int):
    return lambda source, count: None if count <= sizes[source] else sizes[source]


@pytest.mark.parametrize(
    "weights",
    [
        SMOL,
        fractions(1),
        fractions(50, 50),
        fractions(33.3, 33.3, 33.4),
        fractions(87.5, 12.25, 0.25),
        fractions(0.99999, 0.00001),
        fractions(33.333, 33.333, 33.334),
    ],
)
def test_every_block_holds_the_weights_exactly(weights: list[Fraction]) -> None:
    mixture = Mixture([(0, weights)], seed=3)
    size = sum(block_of(weights))
    assert size <= 2 * LARGEST_BLOCK
    for block in range(4 if size <= SMALL_BLOCK else 1):
        sources, _ = mixture.locate(np.arange(block * size, (block + 1) * size))
        assert np.bincount(sources, minlength=len(weights)).tolist() == [weight * size for weight in weights]


def test_every_stretch_of_samples_comes_close_to_the_weights() -> None:
    sources, _ = Mixture([(0, SMOL)], seed=3).locate(np.arange(4000))
    for begin in range(0, 3900, 37):
        counts = np.bincount(sources[begin : begin + 100], minlength=4)
        assert np.abs(counts - [43.5, 43.5, 10, 3]).max() <= 2, counts


def test_a_source_is_served_in_its_own_order_without_gaps() -> None:
    found = served(Mixture([(0, SMOL)], seed=3), 2000)
    for source in range(4):
        indices = [index for which, index in found if which == source]
        assert indices == list(range(len(indices)))


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any),
    phase=st.lists(st.integers(0, 40), min_size=5, max_size=5).filter(lambda w: all(v > 0 for v in w)),
    start=st.integers(1, 900), seed=st.integers(0, 99), draw=st.randoms(),
    sizes=st.lists(st.integers(1, 400), min_size=5, max_size=5),
    policy=st.sampled_from(["repeat", "stop", "reweight"]),
)  # fmt: skip
def test_a_sample_is_the_same_whatever_was_asked_before(
    weights, phase, start, seed, draw, sizes, policy
) -> None:
    def make() -> Mixture:
        phases = [(0, fractions(*weights)), (start, fractions(*phase[: len(weights)]))]
        return Mixture(phases, seed, policy, limits(*sizes))

    whole = make()
    whole._extend(1500)
    count = min(1500, whole.end if whole.end is not None else 1500)
    if not count:
        return
    found = served(whole, count)
    again = make()
    for _ in range(5):
        begin = draw.randrange(count)
        some = np.arange(begin, min(count, begin + draw.randint(1, 300)))
        sources, indices = again.locate(some)
        assert list(zip(sources.tolist(), indices.tolist(), strict=True)) == found[begin : begin + len(some)]
        until = int(some[-1]) + 1
        assert again.served(until) == tuple(
            Counter(s for s, _ in found[:until])[s] for s in range(len(weights))
        )
    assert len(set(found)) == len(found), "a sequence was served twice"
    if policy != "repeat":
        assert all(index < sizes[source] for source, index in found)


def test_weights_change_where_a_phase_begins() -> None:
    mixture = Mixture([(0, fractions(90, 10)), (1000, fractions(50, 50))], seed=1)
    sources, _ = mixture.locate(np.arange(2024))
    assert np.bincount(sources[:1000]).tolist() == [900, 100]
    assert np.bincount(sources[1000:]).tolist() == [512, 512]
    assert mixture.changes(2024) == [(1000, (0.5, 0.5))]


def test_a_run_stops_at_the_first_sequence_that_is_not_there() -> None:
    mixture = Mixture([(0, fractions(75, 25))], 1, "stop", limits(10**9, 70))
    with pytest.raises(IndexError):
        mixture.locate(np.arange(1000))
    assert mixture.end is not None
    found = served(mixture, mixture.end)
    assert sum(source == 1 for source, _ in found) == 70
    assert abs(mixture.end - 280) <= 4


def test_the_others_take_the_place_of_a_source_that_is_used_up() -> None:
    mixture = Mixture([(0, fractions(60, 20, 20))], 1, "reweight", limits(10**9, 100, 10**9))
    found = served(mixture, 3000)
    dry = [place for place, (source, _) in enumerate(found) if source == 1]
    assert 0.2 * 256 < len(dry) <= 100
    after = Counter(source for source, _ in found[dry[-1] + 300 :])
    assert after[0] / (after[0] + after[2]) == pytest.approx(0.75, abs=0.01)
    assert mixture.changes(3000)[0][1] == (0.75, 0, 0.25)


def test_a_run_ends_when_every_source_is_used_up() -> None:
    mixture = Mixture([(0, fractions(50, 50))], 1, "reweight", limits(1000, 2000))
    with pytest.raises(IndexError):
        mixture.locate(np.arange(5000))
    assert mixture.end is not None
    assert 3000 - 2 * 256 <= mixture.end <= 3000


def test_the_fingerprint_covers_what_was_served_and_nothing_later() -> None:
    one = Mixture([(0, fractions(90, 10)), (1000, fractions(50, 50))], seed=1)
    longer = Mixture([(0, fractions(90, 10)), (1600, fractions(50, 50))], seed=1)
    assert one.fingerprint(1000) == longer.fingerprint(1000)
    assert one.fingerprint(1001) != longer.fingerprint(1001)
    assert one.fingerprint(1001) == one.fingerprint(5000)
    assert one.fingerprint(10) != Mixture([(0, fractions(90, 10))], seed=2).fingerprint(10)


def test_weights_of_many_decimals_are_exact_or_refused() -> None:
    assert block_of(fractions(99.999, 0.001)) == (99_999, 1)
    assert block_of(fractions(99.9999, 0.0001)) == (999_999, 1)
    with pytest.raises(RequestError, match=r"blocks of 10,000,000 samples, and 1,000,000 are the most"):
        block_of(fractions(99.99999, 0.00001))
    long = {"path": "a.txt", "weight": 99.99999}, {"path": "b.txt", "weight": 0.00001}
    fine = {"path": "a.txt", "weight": 66.67}, {"path": "b.txt", "weight": 33.33}
    domains = {"x": {"weight": 87.25, "sources": fine}, "y": {"weight": 12.75, "sources": ["c.txt"]}}
    phase = {"start": 0.5, "weights": {"x": 50.00001, "y": 49.99999}}
    for asked in (
        {"sources": long},
        {"domains": domains},
        {"domains": {**domains, "x": {"weight": 87.25, "sources": ["d.txt"]}}, "schedule": [phase]},
    ):
        with pytest.raises(ValueError, match="give domains and sources weights with fewer decimals"):
            DataSettings.model_validate({"sequence_length": 8, **asked})
    DataSettings.model_validate({"sequence_length": 8, "sources": fine})


@pytest.mark.parametrize("policy", ["stop", "reweight"])
def test_of_a_large_block_no_more_is_asked_than_is_served(policy) -> None:
    asked: list[tuple[int, int]] = []

    def limit(source: int, count: int) -> int | None:
        asked.append((source, count))
        return limits(10**9, 5, 300)(source, count)

    mixture = Mixture([(0, fractions(79.989, 0.011, 20))], 1, policy, limit)
    assert sum(block_of(fractions(79.989, 0.011, 20))) > SMALL_BLOCK
    found = served(mixture, 1000)
    assert max(count for source, count in asked if source == 0) <= 1000
    again = Mixture([(0, fractions(79.989, 0.011, 20))], 1, policy, limit)
    assert served(again, 700) == found[:700]
    if policy == "stop":
        with pytest.raises(IndexError):
            mixture.locate(np.array([3000]))
        assert mixture.end is not None
        assert sum(source == 2 for source, _ in served(mixture, mixture.end)) == 300
    else:
        later = served(mixture, 60_000)
        assert [sum(s == source for s, _ in later) for source in (1, 2)] == [5, 300]  # all that they have
        assert len(set(later)) == len(later)


def test_what_was_rounded_once_has_another_fingerprint() -> None:
    exact = Mixture([(0, fractions(99.999, 0.001))], 1).fingerprint(10)
    facts = ([(0, [str(weight) for weight in fractions(99.999, 0.001)])], 1, "repeat")
    assert exact != hashlib.sha256(repr(facts).encode()).hexdigest()
    facts = ([(0, [str(weight) for weight in SMOL])], 1, "repeat")
    assert Mixture([(0, SMOL)], 1).fingerprint(10) == hashlib.sha256(repr(facts).encode()).hexdigest()
