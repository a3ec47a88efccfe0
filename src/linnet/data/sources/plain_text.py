"""Documents of plain text files: between lines `<|endoftext|>`, or pieces of one long text."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from linnet.data.sources import reading
from linnet.data.sources.reading import too_long

SEPARATOR = "<|endoftext|>"
PIECE_CHARACTERS = 16_384
_LONGEST_PIECE = 4 * PIECE_CHARACTERS
_SEPARATOR_WITHIN = 1 << 24  # characters; a file without a separator in these has none
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_MARGIN = 100  # characters of white space that may stand on either side of a separator in its line
_SEPARATOR_LINE = re.compile(rf"\n[^\S\n]{{0,{_MARGIN}}}{re.escape(SEPARATOR)}[^\S\n]{{0,{_MARGIN}}}(?=\n)")
_LONGEST_SEPARATOR = len(SEPARATOR) + 2 * _MARGIN + 2


def text_documents(blocks: Iterator[str], where: str) -> Iterator[str]:
    """Documents of a text file: parted by lines that hold SEPARATOR alone, or else pieces of one long text.

    SEPARATOR within a line is text. A file without such lines is cut at blank lines into pieces of
    about PIECE_CHARACTERS, so that a part of it can be held out for validation.

    Args:
        blocks: the text, in blocks of any size.
        where: the file, as people are told it.

    Raises:
        RequestError: when a document would fill the memory.
    """
    head, ended = "", True
    for block in blocks:
        head += block
        if len(head) >= _SEPARATOR_WITHIN:
            ended = False
            break
    separated = _SEPARATOR_LINE.search(f"\n{head}\n" if ended else f"\n{head}") is not None
    whole = itertools.chain([head], blocks)
    del head
    found = _between_separators(whole, where) if separated else _pieces(whole)
    return filter(None, map(str.strip, found))


def _between_separators(blocks: Iterator[str], where: str) -> Iterator[str]:
    buffer, searched = "\n", 0
    for block in itertools.chain(blocks, "\n"):
        buffer += block
        start = 0
        for line in _SEPARATOR_LINE.finditer(buffer, searched):
            yield buffer[start : line.start()]
            start = line.end()
        buffer = buffer[start:]
        if len(buffer) > reading.LONGEST_LINE:
            raise too_long("document", where, f"part documents with lines {SEPARATOR}")
        last = buffer.rfind("\n", max(0, len(buffer) - _LONGEST_SEPARATOR))
        searched = last if last >= 0 else len(buffer)  # a line as long as this is no separator
    yield buffer


def _pieces(blocks: Iterator[str]) -> Iterator[str]:
    buffer = ""
    for block in blocks:
        buffer += block
        start = 0
        while len(buffer) - start > _LONGEST_PIECE:
            end = _piece_end(buffer, start)
            yield buffer[start:end]
            start = end
        buffer = buffer[start:]
    while buffer:
        end = _piece_end(buffer, 0)
        yield buffer[:end]
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
