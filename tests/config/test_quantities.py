"""Lengths carry their unit, and read back as they were written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linnet.config import Length, RequestError, parse_length, share_of


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("300 steps", Length(300, "steps")),
        ("1 step", Length(1, "steps")),
        ("300steps", Length(300, "steps")),
        ("1,000 steps", Length(1000, "steps")),
        ("1_000 steps", Length(1000, "steps")),
        ("2.3k steps", Length(2300, "steps")),
        ("2e3 steps", Length(2000, "steps")),
        ("1100 tokens", Length(1100, "tokens")),
        ("1 token", Length(1, "tokens")),
        ("5 T tokens", Length(5e12, "tokens")),
        ("5t tokens", Length(5e12, "tokens")),
        ("10B tokens", Length(1e10, "tokens")),
        ("1.5M tokens", Length(1.5e6, "tokens")),
        ("2 epochs", Length(2, "epochs")),
        ("0.5 Epoch", Length(0.5, "epochs")),
    ],
)
def test_lengths(text: str, length: Length) -> None:
    assert parse_length(text) == length


@pytest.mark.parametrize(
    "text",
    [
        "",
        "300",
        "steps",
        "0 steps",
        "-3 steps",
        "1.5 steps",
        "3 hours",
        "3 parsecs",
        "B tokens",
        "1 2 steps",
        300,
        None,
        1.5,
        True,
    ],
)
def test_what_is_no_length_is_told_how_to_write_one(text: object) -> None:
    with pytest.raises(RequestError, match=r"write for example '300 steps'"):
        parse_length(text)


@given(st.integers(1, 10**13), st.sampled_from(["steps", "tokens", "epochs"]))
def test_a_length_reads_back(amount: int, unit: str) -> None:
    length = parse_length(f"{amount} {unit}")
    assert parse_length(str(length)) == length == Length(amount, unit)  # type: ignore[arg-type]


def test_a_length_in_steps_rounds_up_and_is_at_least_one() -> None:
    assert parse_length("1000 tokens").steps(256, 9999) == 4
    assert parse_length("1024 tokens").steps(256, 9999) == 4
    assert parse_length("1 token").steps(256, 9999) == 1
    assert parse_length("2 epochs").steps(256, 1000) == 8
    assert parse_length("0.5 epochs").steps(256, 1024) == 2
    assert parse_length("7 steps").steps(256, 1024) == 7


def test_shares_and_steps() -> None:
    assert share_of(0.05, 200) == 10
    assert share_of(5, 200) == 5
    assert share_of(5.0, 200) == 5
    assert share_of(0, 200) == share_of(0.0, 200) == 0
    assert share_of(0.999, 100) == 100
