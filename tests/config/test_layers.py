"""Values keep the place they came from, through files, layers and KEY=VALUE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest
from pydantic import Field

from linnet.config import RequestError, Section, from_overrides, from_text, validate


class Inner(Section):
    """A section in a section."""

    width: int = 1
    names: list[str] = Field(default=[])
    habits: ClassVar[Mapping[str, str]] = {"breadth": "write 'width'"}


class Outer(Section):
    """A section for these tests."""

    title: str
    rate: float = 0.5
    on: bool = False
    inner: Inner = Inner()
    several: list[Inner] = Field(default=[])


def told(text: str, *words: str) -> str:
    with pytest.raises(RequestError) as error:
        validate(Outer, from_text(text, "file.yaml").over(from_overrides(list(words))))
    assert "\n" not in error.value.line()
    return error.value.line()


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("3e-4", 3e-4),
        ("3.0e-4", 3e-4),
        ("1E3", 1000.0),
        ("-2", -2),
        ("1_000", 1000),
        ("true", True),
        ("null", None),
        ("", None),
        ("[a, b]", ["a", "b"]),
        ("{a: 1}", {"a": 1}),
        ("text", "text"),
        ("a: b: c", "a: b: c"),
        ("with=sign", "with=sign"),
        ("*.txt", "*.txt"),
        ("10B tokens", "10B tokens"),
        ("'3'", "3"),
        ("stories.txt", "stories.txt"),
    ],
)
def test_values_on_the_command_line(word: str, value: object) -> None:
    assert from_overrides([f"some.key={word}"]).values == {"some": {"key": value}}


def test_numbers_in_files_are_those_people_write() -> None:
    values = from_text("a: 3e-4\nb: 0x10\nc: '3e-4'\nd: 1.5\ne: e4\n", "f").values
    assert values == {"a": 3e-4, "b": 16, "c": "3e-4", "d": 1.5, "e": "e4"}


def test_later_layers_win_key_by_key() -> None:
    layers = from_text("title: a\ninner: {width: 2, names: [x]}", "f").over(
        from_overrides(["inner.width=3", "rate=1e-1"])
    )
    built = validate(Outer, layers)
    assert (built.title, built.inner.width, built.inner.names, built.rate) == ("a", 3, ["x"], 0.1)


def test_mistakes_are_told_with_their_place() -> None:
    assert told("title: a\nrte: 1\n").startswith("file.yaml:2: unknown key 'rte'; did you mean 'rate'?")
    assert told("title: a\ninner:\n  widht: 1\n").startswith(
        "file.yaml:3: unknown key 'inner.widht'; did you mean 'inner.width'?"
    )
    assert "file.yaml:3" in told("title: a\ninner:\n  width: wide\n")
    assert told("title: a\n", "inner.width=wide").startswith("command line, 'inner.width=wide': inner.width")
    assert told("title: a\ninner:\n  breadth: 1\n").endswith("write 'width'")
    assert told("title: a\nbreadth: 1\n").endswith("in 'inner': write 'width'")
    assert told("title: a\nwidth: 1\n").endswith("it belongs at 'inner.width'")
    assert told("rate: 1.0\n") == "file.yaml: 'title' is missing; add it"
    assert "file.yaml:4" in told("title: a\nseveral:\n  - {width: 1}\n  - {width: x}\n")
    assert "1 more" in told("titel: a\n")


def test_types_are_strict() -> None:
    for wrong in (
        "inner.width=1.5",
        "inner.width='1'",
        "inner.width=true",
        "on=1",
        "on='yes'",
        "title=3",
        "inner=3",
    ):
        assert wrong.partition("=")[0].split(".")[-1] in told("title: a\n", wrong)
    assert validate(Outer, from_text("title: a\nrate: 1\n", "f")).rate == 1.0


@pytest.mark.parametrize("word", ["noequals", "=3", "a..b=3", ".a=3", "a b=3", "-x=3", "3a=1"])
def test_words_that_are_not_key_and_value(word: str) -> None:
    with pytest.raises(RequestError, match="this is not KEY=VALUE"):
        from_overrides([word])


def test_sections_cannot_be_changed() -> None:
    with pytest.raises(Exception, match="frozen"):
        Outer(title="a").title = "b"  # type: ignore[misc]
