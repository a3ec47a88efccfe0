"""Rows of JSON files, and what JSON may hold that a row may not.

NaN, which pandas and Python write and JSON does not know, is null: nobody means the word "nan". An
integer of more digits than Python makes a number of (4,300) stays the text of its digits. A name that
an object has twice is refused, since one of its two values would be lost.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from linnet.config import RequestError
from linnet.data.sources import reading
from linnet.data.sources.reading import Row, too_long
from linnet.data.sources.troubles import Damage


class NotJson(Exception):
    """A text that is not JSON, with the reason and the line of the text."""

    def __init__(self, reason: str, line: int = 1) -> None:
        super().__init__(reason)
        self.line = line


class DoubledName(Exception):
    """An object with two fields of one name, which is the exception's text."""


def _object_from(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise DoubledName(twice(name for name, _ in pairs))
    return found


def twice(names: Iterator[str]) -> str:
    """The first name that came before, or nothing."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), "")  # type: ignore[func-returns-value]


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


def _integer(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:
        return digits


_DECODER = json.JSONDecoder(object_pairs_hook=_object_from, parse_constant=_constant)
_PATIENT = json.JSONDecoder(object_pairs_hook=_object_from, parse_constant=_constant, parse_int=_integer)


def value_of(text: str) -> Any:
    """The value that a JSON text holds.

    Raises:
        NotJson: it is none, or is nested too deep.
        DoubledName: an object in it has two fields of one name.
    """
    try:
        try:
            return _DECODER.decode(text)
        except json.JSONDecodeError:
            raise
        except ValueError:  # a long integer; a function for every integer would slow all others down
            return _PATIENT.decode(text)
    except json.JSONDecodeError as error:
        raise NotJson(error.msg, error.lineno) from None
    except RecursionError:
        raise NotJson("nested too deep") from None


def is_nan(value: Any) -> bool:
    """Whether a value is the float that stands for none."""
    return isinstance(value, float) and math.isnan(value)


def json_rows(numbered: Iterator[str], where: str, row: int) -> Iterator[Row]:
    """Rows of a file with one JSON object a line, numbered by line, or of one JSON array, by item."""
    number, empty = -1, True
    for line in numbered:
        number += 1
        sign = line[:256].lstrip()[:1]
        if empty and sign == "[":
            yield from _array(itertools.chain([line], numbered), where, number, row)
            return
        empty = empty and not (sign or line.strip())
        if number < row or not (sign or line.strip()):
            continue
        place = f"{where}:{number + 1}"
        try:
            value = value_of(line)
        except NotJson as error:
            raise Damage(f"this line is not JSON ({error})", place, "give one JSON object a line") from None
        except DoubledName as name:
            raise doubled(str(name), place) from None
        del line  # a long one would stand in memory beside its text
        yield number, _object(value, place), place


def _array(parts: Iterator[str], where: str, skipped: int, row: int) -> Iterator[Row]:
    held, kept = 0, []
    for part in parts:
        held += len(part) + 1
        if held > reading.LONGEST_LINE:
            raise too_long("JSON array", where, "give one JSON object a line")
        kept.append(part)
    try:
        items = value_of("\n".join(kept))
    except NotJson as error:
        raise Damage(
            f"this is not a JSON array ({error})",
            f"{where}:{skipped + error.line}",
            "give one JSON object a line, or one array of objects",
        ) from None
    except DoubledName as name:
        raise doubled(str(name), where) from None
    for number in range(row, len(items)):
        place = f"{where}, item {number}"
        yield number, _object(items[number], place), place


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RequestError("this is not a JSON object", place, 'write {"text": "..."}')
    return value


def doubled(name: str, place: str) -> RequestError:
    """What to say of two fields or columns of one name."""
    return RequestError(f"two of its fields are named {name!r}", place, "give each a name of its own")
