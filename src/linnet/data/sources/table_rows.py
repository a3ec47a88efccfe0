"""Rows of tables: CSV with a line of names. A field that is NaN and nothing else is null, as pandas reads it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import chain

from linnet.config import RequestError
from linnet.data.sources import reading
from linnet.data.sources.json_rows import doubled, twice
from linnet.data.sources.reading import Row
from linnet.data.sources.troubles import Damage

_SPACED = re.compile(r'(?:\A|,) +"(?!")')
_NAN = ("nan", "NaN")
_OTHER_MARKS = {";": "';'", "\t": "tabs", "|": "'|'"}


def csv_rows(parts: Iterator[str], where: str, row: int) -> Iterator[Row]:
    """Rows of a table with a line of names; quoted fields may hold commas and line ends."""
    csv.field_size_limit(max(csv.field_size_limit(), reading.LONGEST_LINE))
    first = next((line for line in parts if line.strip()), "")
    _refuse_other_marks(first, where)
    last = ""

    def whole_lines() -> Iterator[str]:
        nonlocal last
        for line in chain([first], parts):
            last = line
            yield f"{line}\n"

    table = csv.reader(whole_lines(), strict=True)
    try:
        names = next(table, None) or []
        _refuse_spaces_before_quotes(names, last, f"{where}:1")
        if name := twice(name for name in names if name):
            raise doubled(name, f"{where}:1")
        number = -1
        for values in table:
            if not values:
                continue
            number += 1
            place = f"{where}:{table.line_num}"
            _refuse_spaces_before_quotes(values, last, place)
            if len(values) != len(names):
                raise Damage(
                    f"this row has {len(values)} fields and the first line names {len(names)}",
                    place,
                    "quote fields with commas in them",
                )
            if number >= row:
                found = [None if value in _NAN else value for value in values]
                yield number, dict(zip(names, found, strict=True)), place
    except csv.Error as error:
        raise Damage(
            f"this is not CSV ({error})", f"{where}:{table.line_num}", 'quote fields with "'
        ) from None


def _refuse_other_marks(names: str, where: str) -> None:
    """A first line without a comma that holds another table's mark is not a column's name."""
    mark = next((mark for mark in _OTHER_MARKS if mark in names), None)
    if mark and "," not in names:
        raise RequestError(
            f"its fields seem to be separated by {_OTHER_MARKS[mark]}",
            f"{where}:1",
            f"separate them by commas: pandas.read_csv(FILE, sep={mark!r}).to_csv(NEW, index=False)",
        )


def _refuse_spaces_before_quotes(values: list[str], line: str, place: str) -> None:
    """A quote after a comma and spaces quotes nothing: it would be read as part of the text."""
    if any(value[:1] == " " and value.lstrip(" ")[:1] == '"' for value in values) and _SPACED.search(line):
        raise RequestError(
            "spaces stand between its commas and its quotes",
            place,
            "take them out: pandas.read_csv(FILE, skipinitialspace=True).to_csv(NEW, index=False)",
        )
