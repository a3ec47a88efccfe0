"""A mixture holds its weights exactly, is a pure function of the number, and serves no sequence twice."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnet.data.mixture import LARGEST_BLOCK, Mixture, block_of, exactly


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
    [SMOL, fractions(1), fractions(50, 50), fractions(33.3, 33.3, 33.4), fractions(87.5, 12.25, 0.25)],
)
def test_every_block_holds_the_weights_exactly(weights: list[Fraction]) -> None:
    mixture = Mixture([(0, weights)], seed=3)
    size = sum(block_of(weights))
    assert size <= 2 * LARGEST_BLOCK
    for block in range(4):
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
