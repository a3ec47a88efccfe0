from __future__ import annotations

import numpy as np
import pytest

from linnet.data.order import Order, Permutation


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 16, 17, 63, 64, 65, 1000, 4097, 2**20 + 7])
@pytest.mark.parametrize("key", [(0, 0), (1337, 5)])
def test_every_place_is_visited_once(length: int, key: tuple[int, int]) -> None:
    places = Permutation(length, *key)(np.arange(length))
    assert np.array_equal(np.sort(places), np.arange(length))


def test_many_lengths_and_keys() -> None:
    for length in range(1, 200):
        for seed in range(5):
            places = Permutation(length, seed, length)(np.arange(length))
            assert sorted(places.tolist()) == list(range(length))


def test_one_at_a_time_is_as_all_at_once() -> None:
    order = Order(1000, 3)
    samples = np.arange(2500)
    together = order(samples)
    assert together.tolist() == [int(order(samples[i : i + 1])[0]) for i in samples]
    assert (
        together.tolist()
        == np.concatenate([order(part) for part in np.split(samples, [7, 990, 1010])]).tolist()
    )


def test_epochs_and_seeds_each_have_an_order_of_their_own() -> None:
    samples = np.arange(1000)
    orders = [Order(1000, seed)(samples + 1000 * epoch) for seed in (0, 1, 1337) for epoch in (0, 1, 2)]
    for i, first in enumerate(orders):
        assert np.array_equal(np.sort(first), samples)
        for second in orders[i + 1 :]:
            assert (first == second).mean() < 0.02  # by chance 1 in 1000


def test_an_order_looks_drawn_by_chance() -> None:
    places = Permutation(10_000, 11)(np.arange(10_000))
    assert abs(np.corrcoef(np.arange(10_000), places)[0, 1]) < 0.05
    assert (np.diff(places) == 1).sum() < 10  # neighbours stay neighbours about once
    halves = (places[:5000] < 5000).mean()
    assert 0.47 < halves < 0.53


def test_the_order_is_the_same_everywhere() -> None:
    """A changed order would silently change what every run learns from."""
    golden = [0, 5, 6, 3, 4, 2, 7, 8, 9, 1, 9, 4, 7, 6, 2, 5, 3, 0, 8, 1]
    assert Order(10, 1)(np.arange(20)).tolist() == golden


def test_an_empty_range_has_no_order() -> None:
    with pytest.raises(ValueError):
        Permutation(0, 1)
