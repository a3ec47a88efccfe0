"""Learning rates against transformers' schedules, and where a run begins and ends."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from linnet.train.schedules import schedule

transformers = pytest.importorskip("transformers")
PEAK = 1e-2


def theirs(kind: str, total: int, warmup: int, decay: int, floor: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK)
    if kind == "cosine":
        made = transformers.get_cosine_with_min_lr_schedule_with_warmup(
            optimizer, warmup, total, min_lr_rate=floor
        )
    elif kind == "linear":
        made = transformers.get_linear_schedule_with_warmup(optimizer, warmup, total)
    elif kind == "wsd":
        made = transformers.get_wsd_schedule(
            optimizer, warmup, decay, num_training_steps=total, min_lr_ratio=floor, decay_type="linear"
        )
    else:
        made = transformers.get_constant_schedule_with_warmup(optimizer, warmup)
    return [PEAK * made.lr_lambdas[0](step) for step in range(total + 1)]


def ours(
    kind: str, total: int, warmup: int | float = 0, decay: int | float = 0.2, floor: float = 0.1
) -> list[float]:
    settings = tiny.settings(
        duration=f"{total} steps", learning_rate=PEAK, lr_scheduler_type=kind,
        warmup_steps=warmup, decay_steps=decay, min_lr_rate=floor,
    )  # fmt: skip
    rate = schedule(settings, total)
    return [rate(step) for step in range(total)]


@pytest.mark.parametrize("total", [40, 101])
@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd", "constant"])
def test_rates_are_those_of_transformers(kind: str, total: int) -> None:
    """Ours begin at peak/warmup where theirs waste the first step on a rate of 0; after the warmup both agree.

    (Their WSD warms up from the floor; ours, as the others do, from nothing.)
    """
    warmup, decay, floor = 10, 12, 0.0 if kind == "linear" else 0.05
    expected, rates = theirs(kind, total, warmup, decay, floor), ours(kind, total, warmup, decay, floor)
    warming = theirs("constant", total, warmup, decay, floor) if kind == "wsd" else expected
    assert rates[:warmup] == pytest.approx(warming[1 : warmup + 1])
    assert rates[warmup:] == pytest.approx(expected[warmup:total], abs=1e-12)


def test_the_first_and_the_last_step() -> None:
    cosine = ours("cosine", 100, warmup=10, floor=0.1)
    assert cosine[0] == pytest.approx(PEAK / 10)
    assert cosine[9] == cosine[10] == PEAK == max(cosine)
    assert PEAK * 0.1 < cosine[99] < PEAK * 0.101
    wsd = ours("wsd", 100, warmup=10, decay=0.2, floor=0.1)
    assert wsd[9:81] == [PEAK] * 72
    assert wsd[81] < PEAK
    assert wsd[99] == pytest.approx(PEAK * (0.1 + 0.9 / 20))
    linear = ours("linear", 100, floor=0.1)
    assert linear[0] == PEAK
    assert linear[99] == pytest.approx(PEAK * (0.1 + 0.9 / 100))


def test_a_floor_of_one_never_decays() -> None:
    for kind in ("cosine", "linear", "wsd"):
        assert ours(kind, 30, floor=1.0) == pytest.approx([PEAK] * 30)


def test_steps_and_shares_say_the_same() -> None:
    assert ours("wsd", 200, warmup=20, decay=40) == ours("wsd", 200, warmup=0.1, decay=0.2)


@given(
    kind=st.sampled_from(["cosine", "linear", "wsd", "constant"]),
    total=st.integers(1, 300), warm=st.floats(0, 0.5), decay=st.floats(0, 0.5), floor=st.floats(0, 1),
)  # fmt: skip
def test_rates_rise_once_fall_once_and_stay_in_bounds(
    kind: str, total: int, warm: float, decay: float, floor: float
) -> None:
    rates: list[Any] = ours(kind, total, int(warm * total), int(decay * total), floor)
    assert all(0 < rate <= PEAK * (1 + 1e-12) for rate in rates) or floor == 0
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top])
    assert all(
        later <= earlier + 1e-12 for earlier, later in zip(rates[top:], rates[top + 1 :], strict=False)
    )
    assert min(rates[int(warm * total) :]) >= PEAK * floor - 1e-12
