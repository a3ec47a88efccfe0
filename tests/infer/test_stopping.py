"""Stop strings are found across pieces, and no part of one is ever shown."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linnet.infer.stopping import StopMatcher


def shown(pieces: list[str], stops: list[str]) -> tuple[list[str], bool]:
    matcher = StopMatcher(stops)
    out = [matcher.feed(piece) for piece in pieces]
    return [*out, matcher.finish()], matcher.stopped


@pytest.mark.parametrize(
    ("pieces", "stops", "text", "stopped"),
    [
        (["Hello", " wor", "ld"], [], "Hello world", False),
        (["one\n", "\ntwo"], ["\n\n"], "one", True),
        (["a", "b", "E", "N", "D", "c"], ["END"], "ab", True),
        (["abEN"], ["END"], "abEN", False),
        (["xEEND"], ["END"], "xE", True),
        (["aab", "aac"], ["aac"], "aab", True),
        (["END"], ["END"], "", True),
        (["abcd"], ["abcd", "bc"], "a", True),
        (["User: hi"], ["Bot:", "User:"], "", True),
    ],
)
def test_text_ends_before_the_stop_string(
    pieces: list[str], stops: list[str], text: str, stopped: bool
) -> None:
    out, ended = shown(pieces, stops)
    assert ("".join(out), ended) == (text, stopped)


def test_text_is_shown_as_soon_as_it_cannot_become_a_stop_string() -> None:
    matcher = StopMatcher(["END"])
    assert [matcher.feed(piece) for piece in ("ab", "cE", "N", "o", "E")] == ["ab", "c", "", "ENo", ""]
    assert matcher.finish() == "E"


@given(
    text=st.text("ab", max_size=14),
    stops=st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 14), max_size=5),
)
def test_what_is_shown_does_not_depend_on_the_pieces(text: str, stops: list[str], cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    in_pieces, stopped = shown(pieces, stops)
    whole = "".join(in_pieces)
    assert (whole, stopped) == ("".join(shown([text], stops)[0]), shown([text], stops)[1])
    # The reference: characters one by one until a stop string is complete.
    ends = [n for n in range(len(text) + 1) if any(text[:n].endswith(stop) for stop in stops)]
    if ends:
        longest = max(len(stop) for stop in stops if text[: ends[0]].endswith(stop))
        assert whole == text[: ends[0] - longest]
    assert stopped == bool(ends)
    for length in range(len(in_pieces)):
        assert not any(stop in "".join(in_pieces[:length]) for stop in stops)
