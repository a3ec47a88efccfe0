"""Documents out of files, Hugging Face datasets and the built-in world, one after another.

Reading is lazy and in a fixed order (files sorted by name, rows as they stand), and each document
knows its place, so reading can go on at any of them. A file that is not what it claims to be stops it
with its line; nothing is guessed, and nothing is dropped but rows without text and what the recipe
asks to leave out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import count, islice
from string import Formatter
from typing import Any

from linnet.config import RequestError
from linnet.data.cleaning import Cleaner, Filter
from linnet.data.settings import Cleaning, Source
from linnet.data.sources.files import File, files_of
from linnet.data.sources.hub import commit_of
from linnet.data.sources.plain_text import PIECE_CHARACTERS, SEPARATOR
from linnet.data.sources.reading import Row, Seen, unseen
from linnet.data.sources.rows import rows_of
from linnet.data.sources.troubles import Damage, Interruption

__all__ = [
    "DEFAULT_WORLD", "PIECE_CHARACTERS", "SEPARATOR", "Document", "Tally", "commit_of", "documents",
    "files_of", "limit_of", "texts",
]  # fmt: skip

DEFAULT_WORLD = 20_000  # documents of the built-in world when the recipe does not say


@dataclass(frozen=True, slots=True)
class Document:
    """A text and the place it came from: the file's index in its source and the row's number in that file."""

    text: str
    file: int
    row: int


@dataclass
class Tally:
    """Rows that were read, and why some of them are no documents."""

    rows: int = 0
    without_text: int = 0
    filtered: int = 0
    too_short: int = 0
    too_long: int = 0

    @property
    def kept(self) -> int:
        """The documents."""
        return self.rows - self.without_text - self.filtered - self.too_short - self.too_long

    def add(self, other: Tally) -> None:
        """Take another's counts over."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


def limit_of(source: Source) -> int | None:
    """The most documents that are taken of a source."""
    return source.documents or (DEFAULT_WORLD if source.builtin else None)


def texts(source: Source, split: str = "train", seen: Seen = unseen) -> Iterator[str]:
    """The documents of a source as texts, in order, from the first on; see `documents`."""
    return (document.text for document in documents(source, split=split, seen=seen))


def documents(
    source: Source,
    *,
    files: list[File] | None = None,
    file: int = 0,
    row: int = 0,
    limit: int | None = None,
    split: str = "train",
    cleaning: Cleaning = Cleaning(),  # noqa: B008 - it is frozen
    seen: Seen = unseen,
    tally: Tally | None = None,
) -> Iterator[Document]:
    """The documents of a source from a place on, whole and in order.

    Args:
        files: the source's files when they are known already; else `files_of(source)`.
        file, row: where to begin. A document's own place gives that document first, `row + 1` the next.
        limit: the most documents to give. Without it `source.documents` holds when reading begins at the
            beginning; whoever begins elsewhere says what is left.
        split: of the built-in world, which holds its own validation documents; files and datasets
            have none, so it does not concern them.
        seen: called with every further byte of files, those before the place included.
        tally: counts rows; those after the last document that was given are counted when their file ends.

    Raises:
        RequestError: when the files are not there or not what they claim to be, or a row lacks a field.
        RunError: when a file far away is gone or does not answer (an `Interruption`: it may be asked again).
    """
    if limit is None and not file and not row:
        limit = limit_of(source)
    found = _found(source, files, file, row, split, cleaning, seen, tally or Tally())
    if limit is None:
        yield from found
    elif limit > 0:
        yield from islice(found, limit)


def _found(
    source: Source, files: list[File] | None, file: int, row: int, split: str, cleaning: Cleaning,
    seen: Seen, tally: Tally,
) -> Iterator[Document]:  # fmt: skip
    text_of = _assembler(source)
    keep = Filter(source.filter) if source.filter else None
    clean = Cleaner(cleaning)
    uncounted, current = Tally(), file
    for index, (number, values, place) in _rows(source, files, file, row, split, keep, seen):
        if index != current:
            tally.add(uncounted)
            uncounted, current = Tally(), index
        uncounted.rows += 1
        text = text_of(values, place)
        if not text:
            uncounted.without_text += 1
        elif keep is not None and not _kept(keep, values, text, place):
            uncounted.filtered += 1
        elif (cleaned := clean(text)) is None:
            setattr(uncounted, clean.reason, getattr(uncounted, clean.reason) + 1)
        else:
            tally.add(uncounted)
            uncounted = Tally()
            document = Document(cleaned, index, number)
            del values, text, cleaned  # a long one is held by whoever reads it, and nowhere else
            yield document
            del document
    tally.add(uncounted)


def _rows(
    source: Source, files: list[File] | None, file: int, row: int, split: str, keep: Filter | None, seen: Seen
) -> Iterator[tuple[int, Row]]:
    """Rows with the index of their file, from row `row` of file `file` on."""
    if source.builtin:
        from linnet.data import world

        if source.name not in (None, "document", "domain_document"):
            raise RequestError(f"{source.name!r} are no documents", source.title,
                               "write name: document or domain_document")  # fmt: skip
        make = world.domain_document if source.name == "domain_document" else world.document
        for number in count(row):
            text = make(split, 0, number)["text"]
            yield 0, (number, {source.fields[0]: text}, f"builtin:world, document {number}")
        return
    needed = dict.fromkeys(source.fields)
    needed |= dict.fromkeys(sorted(keep.fields - {"text"})) if keep else {}
    text_name = source.text_field if source.text_template is None else "text"
    for index, one in enumerate(files_of(source) if files is None else files):
        if index < file:
            seen(one.size or 0)
            continue
        try:
            for found in rows_of(one, row if index == file else 0, list(needed), text_name, seen):
                yield index, found
        except (Interruption, Damage) as trouble:
            trouble.file = index
            raise


def _kept(keep: Filter, values: Mapping[str, Any], text: str, place: str) -> bool:
    try:
        return keep({**values, "text": text})
    except RequestError as error:
        raise RequestError(error.what, place, error.mend) from None


class _Named(Formatter):
    """A template's fields are names, whatever signs they hold; nothing is looked up inside them."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        return kwargs[field_name], field_name


def _assembler(source: Source) -> Callable[[Mapping[str, Any], str], str]:
    """A function from a row and its place to its text; empty when the row has none."""
    template, names = source.text_template, source.fields

    def of_field(values: Mapping[str, Any], place: str) -> str:
        text = _field(values, names[0], place)
        if text is None:
            return ""
        if not isinstance(text, str):
            raise RequestError(
                f"the field {names[0]!r} is not text", place, "set text_field to a field that is"
            )
        return _as_text(text)

    def of_template(values: Mapping[str, Any], place: str) -> str:
        given = {name: _field(values, name, place) for name in names}
        for name, value in given.items():
            if value is None:
                return ""
            if not isinstance(value, (str, int, float)):
                raise RequestError(f"the field {name!r} is not text", place, "leave it out of text_template")
        try:
            return _as_text(_Named().vformat(template or "", (), given))
        except (ValueError, KeyError) as error:
            raise RequestError(f"text_template cannot be filled in ({error})", place,
                               "write fields as {name}, and braces as {{ and }}") from None  # fmt: skip

    return of_field if template is None else of_template


def _field(values: Mapping[str, Any], name: str, place: str) -> Any:
    try:
        return values[name]
    except KeyError:
        has = ", ".join(map(repr, values)) or "none"
        raise RequestError(
            f"there is no field {name!r}", place, f"its fields are {has}; set text_field"
        ) from None


def _as_text(text: str) -> str:
    """A text as it can be written and tokenised.

    A separator at either end is how some files mark a document's end, not a part of its text.
    """
    if not text.isascii():  # JSON can spell half a surrogate pair, which UTF-8 and tokenizers cannot
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.strip().removeprefix(SEPARATOR).removesuffix(SEPARATOR).strip()
