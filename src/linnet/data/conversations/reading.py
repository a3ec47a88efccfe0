"""Rows of a source as conversations, pairs or problems, every row accounted for.

Nothing is told beforehand about a dataset; see schemas.py for how it is recognised. A row that is null,
empty or damaged in its content is counted under its reason and left out; a file that is damaged is an
error, as everywhere.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from linnet.config import RequestError
from linnet.data.cleaning import Filter
from linnet.data.conversations.columns import READ, SYSTEM
from linnet.data.conversations.kinds import Item, Kind, Unusable, turns_in
from linnet.data.conversations.labels import Labels
from linnet.data.conversations.schemas import SCHEMAS, held, recognise
from linnet.data.conversations.tools import TOOLS, holds, holds_tools, tools_of, without_alignment
from linnet.data.settings import Source
from linnet.data.sources.documents import files_of, limit_of
from linnet.data.sources.reading import unseen
from linnet.data.sources.rows import rows_of

World = Literal["instruction", "preference", "request", "problem"]
WORLDS: dict[Kind, World] = {"conversation": "instruction", "pair": "preference", "problem": "problem"}
_LOOKED_AT = 1000  # rows without a single item before a dataset is said to fit nothing
PLURAL: dict[Kind, str] = {"conversation": "conversations", "pair": "pairs", "problem": "problems"}


@dataclass
class Gathered:
    """What a source gave.

    schemas: rows by the schema that read them. unusable: rows by why they gave nothing. unread: rows by the
    columns that say something and are no part of what is learned.
    """

    title: str
    kind: Kind
    items: list[Item] = field(default_factory=list)
    rows: int = 0
    filtered: int = 0
    schemas: Counter[str] = field(default_factory=Counter)
    unusable: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        read = ", ".join(f"{name} {count:,}" for name, count in self.schemas.most_common())
        text = f"{self.title}: {self.rows:,} rows, {len(self.items):,} {PLURAL[self.kind]} ({read or 'none'})"
        if self.filtered:
            text += f"; {self.filtered:,} filtered"
        if self.unusable:
            text += "; left out: " + ", ".join(f"{why} {n:,}" for why, n in self.unusable.most_common())
        if self.unread:
            text += "; columns that are not learned: " + ", ".join(self.unread)
        return text


def rows(source: Source, split: str = "train", world: World = "instruction") -> Iterator[Mapping[str, Any]]:
    """A source's rows in order, with all their columns; at most `source.documents` that pass its filter.

    Args:
        split: of the built-in world; files and datasets have none.
        world: what the built-in world gives.

    Raises:
        RequestError, RunError: as `documents`.
    """
    return (row for row in itertools.islice(_rows(source, split, world), limit_of(source)))


def _rows(source: Source, split: str, world: World) -> Iterator[Mapping[str, Any]]:
    keep = Filter(source.filter) if source.filter else None
    for row, place, aligned in _with_places(source, split, world):
        try:
            if keep is None or keep(row):
                whole = {**row, **dict(source.columns)}
                yield without_alignment(whole) if aligned else whole
        except RequestError as error:
            raise RequestError(error.what, place, error.mend) from None


def _with_places(source: Source, split: str, world: World) -> Iterator[tuple[Mapping[str, Any], str, bool]]:
    """Rows, their places, and whether nulls in them may only be there to align the structs of a table."""
    if source.builtin:
        from linnet.data import world as the_world

        name = source.name or world
        make = getattr(the_world, name)
        for number in itertools.count():
            yield make(split, 0, number), f"builtin:world, {name} {number}", False
    for file in files_of(source):
        for _, row, place in rows_of(file, 0, None, source.text_field, unseen):
            yield row, place, file.kind == ".parquet"


def gather(source: Source, kind: Kind, *, split: str = "train", world: World | None = None) -> Gathered:
    """Everything of one kind that a source gives.

    Args:
        split: of the built-in world.
        world: what the built-in world gives; by default what fits the kind.

    Raises:
        RequestError: when no row gives this kind: the line names the columns, what would fit, and what
            else these columns give. Or as `documents`.
    """
    found = collect(rows(source, split, world or WORLDS[kind]), kind, source.title)
    if source.builtin:
        found.unread.clear()  # its columns are what its stages need
    return found


def collect(many: Iterable[Mapping[str, Any]], kind: Kind, title: str) -> Gathered:
    """As `gather`, from rows at hand.

    Raises:
        RequestError: when no row gives this kind.
    """
    found = Gathered(title, kind)
    labels = Labels()
    columns: dict[str, None] = {}
    for row in many:
        found.rows += 1
        columns |= dict.fromkeys(row)
        try:
            name, items = read(row, kind)
        except Unusable as reason:
            found.unusable[str(reason)] += 1
            if found.rows >= _LOOKED_AT and not found.items and found.unusable[_FITS_NOTHING] == found.rows:
                break
            continue
        found.schemas[name] += 1
        labels.note(row, name, len(found.items), len(found.items) + len(items))
        found.items += items
        if kind != "problem":  # whose columns its verifiers are given
            found.unread.update(_unread(items[0]))
    for name, first, end in reversed(labels.no_answers()):
        del found.items[first:end]
        found.schemas[name] -= 1
        found.unusable["labelled as no answer (label 0)"] += 1
    found.schemas += Counter()  # without those that are 0 now
    if not found.items:
        raise _nothing(found, list(columns))
    return found


_FITS_NOTHING = "no schema fits its columns"
_MEDIA = ("image", "images", "audio", "audios", "video", "videos")


def _unread(item: Item) -> list[str]:
    """The columns of an item that say something and are no part of it."""
    opening = turns_in(item)[0][0]
    system = opening["content"] if opening["role"] == "system" else None

    def is_read(name: str, value: Any) -> bool:
        if name in SYSTEM:
            return bool(value == system)
        return bool(item.tools) or not holds_tools(value) if name in TOOLS else name in READ

    return [name for name, value in item.columns.items() if holds(value) and not is_read(name, value)]


def read(row: Mapping[str, Any], kind: Kind) -> tuple[str, Sequence[Item]]:
    """The items of one row, and the name of the schema that read it.

    Raises:
        Unusable: it gives none; with the reason of the likeliest schema.
    """
    reason = Unusable(_FITS_NOTHING)
    for place, schema in enumerate(recognise(held(row)).get(kind, ())):
        try:
            for name in (name for name in _MEDIA if holds(row.get(name))):
                raise Unusable(f"it has {name}, and only text is learned")
            _refuse_unlearned(row)
            tools = tools_of(row)
            items = schema.convert(row)
            return schema.name, [replace(item, tools=tools) for item in items] if tools else items
        except Unusable as why:
            reason = reason if place else why
    raise reason


def _refuse_unlearned(row: Mapping[str, Any]) -> None:
    """A row may say of the whole of it, as a turn may of itself, that it is not to be learned."""
    for name in ("weight", "train"):
        if str(row.get(name)).lower() in ("0", "0.0", "false"):
            raise Unusable(f"a row of {name} {row[name]}")


def gives(source: Source, split: str = "train") -> dict[Kind, list[str]]:
    """The kinds that the first rows of a source give, and the schemas that read them, the likeliest first.

    Raises:
        RequestError: as `documents`.
    """
    kinds: dict[Kind, list[str]] = {}
    for kind in PLURAL:
        names: Counter[str] = Counter()
        for row in itertools.islice(rows(source, split, WORLDS[kind]), 100):
            try:
                names[read(row, kind)[0]] += 1
            except Unusable:
                continue
        if names:
            kinds[kind] = [name for name, _ in names.most_common()]
    return kinds


def _nothing(found: Gathered, columns: Sequence[str]) -> RequestError:
    if not found.rows:
        return RequestError("there are no rows", found.title, "check its files, split and filter")
    fitting = ", ".join(schema.name for schema in SCHEMAS if schema.kind == found.kind)
    others = [PLURAL[kind] for kind in recognise(frozenset(columns)) if kind != found.kind]
    reason = found.unusable.most_common(1)[0][0]
    why = "" if reason == _FITS_NOTHING else f", mostly: {reason}"
    else_ = f" (it gives {' and '.join(others)})" if others else ""
    return RequestError(
        f"none of {found.rows:,} rows gives {PLURAL[found.kind]}{why}; its columns are "
        f"{', '.join(columns) or 'none'}{else_}", found.title,
        f"columns that would: {fitting}",
    )  # fmt: skip
