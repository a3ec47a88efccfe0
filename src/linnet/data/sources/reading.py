"""Bytes as text, unpacked on the way.

Why this exists: the ready-made readers pass over damage. A zstd stream that was cut short just
ends, and a text file opened as UTF-8 tells neither its line nor that it was never text. Here
each way a file can fail to be what it claims is one line that names the place, and neither a
long line nor a file that unpacks to a thousand times its size fills the memory.
"""

from __future__ import annotations

import codecs
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import zstandard

from linnet.config import RequestError
from linnet.data.sources.troubles import Damage

Seen = Callable[[int], None]
"""Is told of every further byte of a file that has been read, so that a build knows how far it is."""

Row = tuple[int, Mapping[str, Any], str]
"""The number of a row in its file, its fields by name, and its place as people are told it."""

LONGEST_LINE = 1 << 29  # characters; a document longer than that is a file that is not what it seems
_BLOCK = 1 << 16  # packed bytes that are read together
_FIRST_PIECE = 1 << 11  # packed bytes that are unpacked together at first; zstd may make 64 MB of them
_SMALL, _LARGE = 1 << 19, 1 << 22  # unpacked bytes at which pieces grow and shrink
_UNPACKERS: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    ".zst": lambda: zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj(),
}
PACKED = tuple(_UNPACKERS)


def unseen(_: int) -> None:
    """For readers that nobody watches."""


def _bytes(stream: BinaryIO, seen: Seen) -> Iterator[bytes]:
    while block := stream.read(_BLOCK):
        seen(len(block))
        yield block


def _unpacked(stream: BinaryIO, packing: str, seen: Seen) -> Iterator[bytes]:
    """The bytes of a file, or of what was packed in it (several members in a row are one text)."""
    if not packing:
        yield from _bytes(stream, seen)
        return
    member: Any = None
    piece = _FIRST_PIECE
    for block in _bytes(stream, seen):
        start = 0
        while start < len(block) and (member or block[start:].strip(b"\0")):  # gzip files may end in zeros
            member = member or _UNPACKERS[packing]()
            packed = block[start : start + piece]
            unpacked = member.decompress(packed)
            start += len(packed)
            if len(unpacked) < _SMALL:
                piece = min(2 * piece, _BLOCK)
            elif len(unpacked) > _LARGE:
                piece = max(piece // 8, 64)
            yield unpacked
            if member.eof:
                start -= len(member.unused_data)
                member = None
    if member:
        raise EOFError("it ends too early")


def unpacked(stream: BinaryIO, packing: str, where: str, seen: Seen = unseen) -> Iterator[bytes]:
    """A stream's bytes as blocks of no particular size, unpacked.

    Raises:
        Damage: when they are packed and damaged.
    """
    try:
        yield from _unpacked(stream, packing, seen)
    except (EOFError, zlib.error, zstandard.ZstdError) as error:
        raise Damage(f"the packed file is damaged ({error})", where, "get it again") from None


def text_blocks(stream: BinaryIO, packing: str, where: str, seen: Seen = unseen) -> Iterator[str]:
    """A stream's text in order, as blocks of no particular size; every line end is a line feed.

    Raises:
        Damage: when it is packed and damaged, is binary, or is not UTF-8.
    """
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    line = 1
    try:
        for block in unpacked(stream, packing, where, seen):
            if b"\0" in block:
                raise _not_text(block, f"{where}:{line}")
            text = decoder.decode(block)
            yield text
            line += text.count("\n")
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        line += error.object[: error.start].count(b"\n")
        byte = error.object[error.start]
        raise Damage(f"this is not UTF-8 (byte 0x{byte:02x})", f"{where}:{line}",
                     "convert the file to UTF-8") from None  # fmt: skip


def _not_text(block: bytes, place: str) -> Damage:
    if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return Damage("this is UTF-16, not UTF-8", place, "convert the file to UTF-8")
    return Damage("this is a binary file, not text in UTF-8", place, "give a text file")


def lines(stream: BinaryIO, packing: str, where: str, seen: Seen = unseen) -> Iterator[str]:
    """A stream's lines, without their ends.

    Raises:
        Damage: as `text_blocks`.
        RequestError: when a line is longer than LONGEST_LINE.
    """
    parts: list[str] = []
    held, number = 0, 1
    for block in text_blocks(stream, packing, where, seen):
        for index, part in enumerate(block.split("\n")):
            if index:
                yield _taken(parts)
                held, number = 0, number + 1
            parts.append(part)
            held += len(part)
            if held > LONGEST_LINE:
                raise too_long("line", f"{where}:{number}", "give one document a line")
    if any(parts):
        yield _taken(parts)


def _taken(parts: list[str]) -> str:
    """The parts as one text; they are let go, so that a long line stands in memory once."""
    text = "".join(parts)
    parts.clear()
    return text


def too_long(unit: str, where: str, mend: str) -> RequestError:
    """What to say of a text that would fill the memory."""
    return RequestError(f"this {unit} is longer than {LONGEST_LINE >> 20} MB", where, mend)


class Blocks(io.RawIOBase):
    """Blocks of bytes as a file that is read from its beginning to its end."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the block at hand goes."""
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
