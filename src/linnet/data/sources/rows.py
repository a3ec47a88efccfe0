"""The rows of a file of any kind, from any row on.

Each reader yields (number of the row in its file, fields by name, place of the row as people are told
it). Numbers count what stands in the file, kept or not: reading can start again at any of them and
meets the same rows. A parquet file is entered at the row group that holds the row; every other kind is
read from its start, which is cheap next to what is done with rows.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, cast

from linnet.config import RequestError
from linnet.data.sources import reading
from linnet.data.sources.files import JSON, TEXT, File, kind_of, open_file, packing_of, readable
from linnet.data.sources.reading import Blocks, Seen, lines, text_blocks, too_long, unpacked
from linnet.data.sources.troubles import Damage, reason_of

Row = tuple[int, Mapping[str, Any], str]

SEPARATOR = "<|endoftext|>"
PIECE_CHARACTERS = 16_384
_LONGEST_PIECE = 4 * PIECE_CHARACTERS
_SEPARATOR_WITHIN = 1 << 24  # characters; a file without a separator in these has none
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_ROWS = 256  # of a parquet file that are decoded together


def rows_of(file: File, row: int, fields: Sequence[str] | None, text_name: str, seen: Seen) -> Iterator[Row]:
    """The rows of a file from number `row` on.

    Args:
        fields: those that are needed, None for all; columnar files read no others.
        text_name: the field under which a text file gives its documents.
        seen: is told of every further byte, those of rows before `row` included.

    Raises:
        Damage: when the file is not what it claims to be.
        RequestError: when it lacks a field, or is of a kind without text.
        Interruption, RunError: as `open_file`.
    """
    try:
        if file.kind == ".parquet":
            yield from _parquet_file(file, row, fields, seen)
        elif file.kind == ".bin":
            raise RequestError(
                "token files hold no text", file.shown, "give .bin files alone, and a named tokenizer"
            )
        else:
            with open_file(file) as stream:
                if file.kind == ".tar":
                    yield from _tar(stream, file.packing, file.shown, row, fields, text_name, seen)
                else:
                    yield from _text_rows(stream, file.kind, file.packing, file.shown, row, text_name, seen)
    except Damage as damage:
        damage.remote = file.remote
        raise


def _text_rows(
    stream: BinaryIO, kind: str, packing: str, where: str, row: int, text_name: str, seen: Seen
) -> Iterator[Row]:
    if kind in TEXT:
        for number, text in enumerate(_plain(text_blocks(stream, packing, where, seen), where)):
            if number >= row:
                yield number, {text_name: text}, f"{where}, document {number}"
    elif kind in JSON:
        yield from _json(lines(stream, packing, where, seen), where, row)
    else:
        yield from _csv(lines(stream, packing, where, seen), where, row)


def _plain(blocks: Iterator[str], where: str) -> Iterator[str]:
    """Documents of a text file: parted by SEPARATOR, or else pieces of one long text.

    A file without separators is cut at blank lines into pieces of about PIECE_CHARACTERS, so
    that a part of it can be held out for validation.
    """
    head = ""
    for block in blocks:
        head += block
        if len(head) >= _SEPARATOR_WITHIN:
            break
    separated, buffer = SEPARATOR in head, ""
    for block in itertools.chain([head], blocks):
        searched, start = max(0, len(buffer) - len(SEPARATOR)), 0
        buffer += block
        if separated and buffer.find(SEPARATOR, searched) >= 0:
            *documents, buffer = buffer.split(SEPARATOR)
            yield from filter(None, map(str.strip, documents))
        if separated and len(buffer) > reading.LONGEST_LINE:
            raise too_long("document", where, f"part documents with {SEPARATOR}")
        while not separated and len(buffer) - start > _LONGEST_PIECE:
            end = _piece_end(buffer, start)
            yield from filter(None, [buffer[start:end].strip()])
            start = end
        buffer = buffer[start:]
    while buffer:
        end = len(buffer) if separated else _piece_end(buffer, 0)
        yield from filter(None, [buffer[:end].strip()])
        buffer = buffer[end:]


def _piece_end(text: str, start: int) -> int:
    """Where a piece that begins at `start` ends: after a blank line, or a line or word if that comes too late."""
    least, most = start + PIECE_CHARACTERS, start + _LONGEST_PIECE
    if blank := _BLANK_LINE.search(text, least, most):
        return blank.end()
    if len(text) <= most:
        return len(text)
    ends = (text.rfind(mark, least, most) + 1 for mark in "\n ")
    return next(filter(None, ends), most)


def _json(numbered: Iterator[str], where: str, row: int) -> Iterator[Row]:
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
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = getattr(error, "msg", "too deep")
            raise Damage(f"this line is not JSON ({reason})", place, "give one JSON object a line") from None
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
        items = json.loads("\n".join(kept))
    except (json.JSONDecodeError, RecursionError) as error:
        line = skipped + getattr(error, "lineno", 1)
        raise Damage(f"this is not a JSON array ({getattr(error, 'msg', 'too deep')})", f"{where}:{line}",
                     "give one JSON object a line, or one array of objects") from None  # fmt: skip
    for number in range(row, len(items)):
        place = f"{where}, item {number}"
        yield number, _object(items[number], place), place


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RequestError("this is not a JSON object", place, 'write {"text": "..."}')
    return value


def _csv(parts: Iterator[str], where: str, row: int) -> Iterator[Row]:
    """Rows of a table with a line of names; quoted fields may hold commas and line ends."""
    csv.field_size_limit(max(csv.field_size_limit(), reading.LONGEST_LINE))
    table = csv.reader((f"{line}\n" for line in parts), strict=True)
    try:
        names = next(table, None) or []
        number = -1
        for values in table:
            if not values:
                continue
            number += 1
            place = f"{where}:{table.line_num}"
            if len(values) != len(names):
                raise Damage(f"this row has {len(values)} fields and the first line names {len(names)}", place,
                             "quote fields with commas in them")  # fmt: skip
            if number >= row:
                yield number, dict(zip(names, values, strict=True)), place
    except csv.Error as error:
        raise Damage(
            f"this is not CSV ({error})", f"{where}:{table.line_num}", 'quote fields with "'
        ) from None


def _parquet_file(file: File, row: int, fields: Sequence[str] | None, seen: Seen) -> Iterator[Row]:
    if not file.remote:
        yield from _parquet(file.path, file.size or 0, file.shown, row, fields, seen)
        return
    with open_file(file) as stream:
        yield from _parquet(stream, file.size or 0, file.shown, row, fields, seen)


def _parquet(
    opened: str | BinaryIO, size: int, where: str, row: int, fields: Sequence[str] | None, seen: Seen
) -> Iterator[Row]:
    """Rows of a parquet file, one row group after another; those before `row`'s are never read."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise RequestError("reading parquet needs pyarrow", where, "pip install 'linnet[data]'") from None
    try:
        # Column by column through one stream: a request for each would be answered more slowly than read.
        buffer = 1 << 20 if isinstance(opened, str) else 0
        with pyarrow.parquet.ParquetFile(opened, buffer_size=buffer, pre_buffer=False) as table:
            names = table.schema_arrow.names
            if missing := [name for name in fields or () if name not in names]:
                raise RequestError(f"there is no column {missing[0]!r}", where,
                                   f"its columns are {', '.join(names)}; set text_field")  # fmt: skip
            total, number, told = table.metadata.num_rows, 0, 0
            for group in range(table.metadata.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                if number + rows <= row:
                    number += rows
                    continue
                for batch in table.iter_batches(_ROWS, row_groups=[group], columns=fields and list(fields)):
                    if number + batch.num_rows > row:
                        yield from _batch(batch, max(0, row - number), number, where)
                    number += batch.num_rows
                    seen(size * number // total - told)
                    told = size * number // total
            seen(size - told)
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise Damage(
            f"this is not a whole parquet file ({reason_of(error)})", where, "get it again"
        ) from None


def _batch(batch: Any, first: int, number: int, where: str) -> Iterator[Row]:
    part = batch.slice(first)
    columns = [column.to_pylist() for column in part.columns]
    names = part.schema.names
    for index, values in enumerate(zip(*columns, strict=True), number + first):
        yield index, dict(zip(names, values, strict=True)), f"{where}, row {index}"


class _Header(tarfile.TarInfo):
    """A member's header. An archive ends with a block of zeros; anything else in a header's place is damage."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _Header:
        """The next member; the library would take a broken header for the end."""
        try:
            return cast("_Header", super().fromtarfile(tarfile_))
        except tarfile.HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":
                raise
            raise _Broken(str(error)) from None


class _Broken(Exception):
    """A header that is none."""


def _tar(
    stream: BinaryIO,
    packing: str,
    where: str,
    row: int,
    fields: Sequence[str] | None,
    text_name: str,
    seen: Seen,
) -> Iterator[Row]:
    """Rows of the members of an archive, in order, numbered on from member to member."""
    number = 0
    blocks = io.BufferedReader(Blocks(unpacked(stream, packing, where, seen)))
    try:
        with tarfile.open(fileobj=blocks, mode="r|", tarinfo=_Header) as archive:
            while member := archive.next():
                cast(
                    Any, archive
                ).members = []  # or an archive of millions would fill the memory with headers
                base = member.name.rpartition("/")[2]
                if not member.isfile() or not readable(base) or base.startswith("._"):
                    continue
                inner = cast(BinaryIO, archive.extractfile(member))
                place = f"{where}, {member.name}"
                for _, values, at in _member(inner, base, member.size, place, fields, text_name):
                    if number >= row:
                        yield number, values, at
                    number += 1
    except (tarfile.TarError, _Broken) as error:
        raise Damage(f"this is not a whole tar archive ({error})", where, "get it again") from None


def _member(
    inner: BinaryIO, name: str, size: int, place: str, fields: Sequence[str] | None, text_name: str
) -> Iterator[Row]:
    kind = kind_of(name)
    if kind in (".tar", ".bin"):
        raise RequestError(f"{kind} files inside an archive are not read", place, "unpack the archive")
    if kind != ".parquet":
        yield from _text_rows(inner, kind, packing_of(name), place, 0, text_name, reading.unseen)
        return
    with tempfile.TemporaryFile() as aside:  # parquet is read from its end
        while block := inner.read(1 << 20):
            aside.write(block)
        aside.seek(0)
        yield from _parquet(aside, size, place, 0, fields, reading.unseen)
