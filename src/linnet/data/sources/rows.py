"""The rows of a file of any kind, from any row on.

Each reader yields (number of the row in its file, fields by name, place of the row as people are told
it). Numbers count what stands in the file, kept or not: reading can start again at any of them and
meets the same rows. A parquet file is entered at the row group that holds the row; every other kind is
read from its start, which is cheap next to what is done with rows.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

from linnet.config import RequestError
from linnet.data.sources import reading
from linnet.data.sources.arrow_rows import parquet_rows
from linnet.data.sources.files import File, open_file
from linnet.data.sources.json_rows import json_rows
from linnet.data.sources.names import JSON, TEXT, hidden, kind_of, packing_of, readable
from linnet.data.sources.plain_text import text_documents
from linnet.data.sources.reading import Blocks, Row, Seen, lines, text_blocks, unpacked
from linnet.data.sources.table_rows import csv_rows
from linnet.data.sources.troubles import Damage


def rows_of(file: File, row: int, fields: Sequence[str] | None, text_name: str, seen: Seen) -> Iterator[Row]:
    """The rows of a file from number `row` on.

    Args:
        fields: those that are needed, None for all; columnar files read no others.
        text_name: the field under which a text file gives its documents.
        seen: called with every further byte, those of rows before `row` included.

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
        for number, text in enumerate(text_documents(text_blocks(stream, packing, where, seen), where)):
            if number >= row:
                yield number, {text_name: text}, f"{where}, document {number}"
    elif kind in JSON:
        yield from json_rows(lines(stream, packing, where, seen), where, row)
    else:
        yield from csv_rows(lines(stream, packing, where, seen), where, row)


def _parquet_file(file: File, row: int, fields: Sequence[str] | None, seen: Seen) -> Iterator[Row]:
    with open_file(file) as stream:  # which says what keeps it from being opened
        opened = stream if file.remote or not _in_utf8(file.path) else file.path
        yield from parquet_rows(opened, file.size or 0, file.shown, row, fields, seen)


def _in_utf8(path: str) -> bool:
    """Whether a path is written in UTF-8, the only one that Arrow opens."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


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
                if not member.isfile() or not readable(base) or hidden(member.name):
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
        yield from parquet_rows(aside, size, place, 0, fields, reading.unseen)
