"""Files as text, unpacked on the way.

Why this exists: the ready-made readers pass over damage. A zstd stream that was cut short just
ends, and a text file opened as UTF-8 tells neither its line nor that it was never text. Here
each way a file can fail to be what it claims is one line that names the place.
"""

from __future__ import annotations

import codecs
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zstandard

from linnet.config import RequestError

Seen = Callable[[int], None]
"""Is told of every further byte of a file that has been read, so that a build knows how far it is."""

_BLOCK = 1 << 16  # packed bytes; they may unpack to many times as many
_UNPACKERS: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    ".zst": lambda: zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj(),
}
PACKED = tuple(_UNPACKERS)


def unseen(_: int) -> None:
    """For readers that nobody watches."""


def _bytes(path: Path, seen: Seen) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            seen(len(block))
            yield block


def _unpacked(path: Path, seen: Seen) -> Iterator[bytes]:
    """The bytes of a file, or of what was packed in it (several members in a row are one text)."""
    if path.suffix not in _UNPACKERS:
        yield from _bytes(path, seen)
        return
    member: Any = None
    for block in _bytes(path, seen):
        while block and (member or block.strip(b"\0")):  # gzip files may be padded with zeros
            member = member or _UNPACKERS[path.suffix]()
            yield member.decompress(block)
            block = member.unused_data if member.eof else b""
            member = None if member.eof else member
    if member:
        raise EOFError("it ends too early")


def text_blocks(path: Path, seen: Seen = unseen) -> Iterator[str]:
    """A file's text in order, as blocks of no particular size; every line end is a line feed.

    Raises:
        RequestError: when the file cannot be read, is packed and damaged, is binary, or is not UTF-8.
    """
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    line = 1
    try:
        for block in _unpacked(path, seen):
            if b"\0" in block:
                raise RequestError(
                    "this is a binary file, not text in UTF-8", f"{path}:{line}", "give a text file"
                )
            text = decoder.decode(block)
            yield text
            line += text.count("\n")
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        line += error.object[: error.start].count(b"\n")
        byte = error.object[error.start]
        raise RequestError(f"this is not UTF-8 (byte 0x{byte:02x})", f"{path}:{line}",
                           "convert the file to UTF-8") from None  # fmt: skip
    except (EOFError, zlib.error, zstandard.ZstdError) as error:
        raise RequestError(f"the packed file is damaged ({error})", str(path), "get it again") from None
    except OSError as error:
        raise RequestError(f"cannot be read ({error.strerror})", str(path), "check the file") from None


def lines(path: Path, seen: Seen = unseen) -> Iterator[str]:
    """A file's lines, without their ends.

    Raises:
        RequestError: as `text_blocks`.
    """
    parts: list[str] = []
    for block in text_blocks(path, seen):
        first, *others = block.split("\n")
        parts.append(first)
        for other in others:
            yield "".join(parts)
            parts = [other]
    if any(parts):
        yield "".join(parts)
