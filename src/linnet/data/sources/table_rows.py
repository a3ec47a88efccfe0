"""Rows of tables: CSV with a line of names."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain

from linnet.config import RequestError
from linnet.data.sources import reading
from linnet.data.sources.json_rows import doubled, twice
from linnet.data.sources.reading import Row
from linnet.data.sources.troubles import Damage

_OTHER_MARKS = {";": "';'", "\t": "tabs", "|": "'|'"}


def csv_rows(parts: Iterator[str], where: str, row: int) -> Iterator[Row]:
    """Rows of a table with a line of names; quoted fields may hold commas and line ends."""
    csv.field_size_limit(max(csv.field_size_limit(), reading.LONGEST_LINE))
    first = next((line for line in parts if line.strip()), "")
    _refuse_other_marks(first, where)
    table = csv.reader((f"{line}\n" for line in chain([first], parts)), strict=True)
    try:
        names = next(table, None) or []
        if name := twice(name for name in names if name):
            raise doubled(name, f"{where}:1")
        number = -1
        for values in table:
            if not values:
                continue
            number += 1
            place = f"{where}:{table.line_num}"
            if len(values) != len(names):
                raise Damage(
                    f"this row has {len(values)} fields and the first line names {len(names)}",
                    place,
                    "quote fields with commas in them",
                )
            if number >= row:
                yield number, dict(zip(names, values, strict=True)), place
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
