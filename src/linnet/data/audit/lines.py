"""What an audit reads: the documents of each source as one line of tokens, near or streamed.

A whole source is read to its end. Of a streamed source nobody may have the end; what is read are the
shards that the first samples of the run come from, from the first document on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from linnet.data.corpus import Component, Corpus
from linnet.data.shards.store import Split
from linnet.data.shards.stream import Stream

CHUNK = 1 << 16  # tokens looked at together: what is made of them stays in a processor's cache


class Line(Protocol):
    """Tokens of one source, documents each ended by EOS.

    begin: where it lies in its component, which is cut into sequences as a whole. complete: whether it is
    all of the source.
    """

    title: str
    domain: str
    component: int
    begin: int
    tokens: int
    complete: bool

    def read(self, start: int, count: int) -> np.ndarray:
        """Tokens start..start+count [count], int64."""
        ...


@dataclass
class WholeLine:
    """A source that was built whole, or a held-out part."""

    split: Split
    title: str
    domain: str
    component: int
    begin: int
    tokens: int
    complete: bool = True

    def read(self, start: int, count: int) -> np.ndarray:
        """See Line."""
        return self.split.read(self.begin + start, count)


class StreamedLine:
    """The first shards of a stream."""

    begin = 0

    def __init__(self, component: Component, number: int, shards: int) -> None:
        assert component.stream is not None
        self.stream: Stream = component.stream
        self.title, self.domain, self.component = component.title, component.domain, number
        end = self.stream.end()
        self.complete, self.tokens = False, shards * self.stream.shard_tokens
        if end and shards >= end[0]:
            self.complete, self.tokens = True, (end[0] - 1) * self.stream.shard_tokens + end[1]

    def read(self, start: int, count: int) -> np.ndarray:
        """See Line."""
        parts = []
        while count > 0:
            shard, offset = divmod(start, self.stream.shard_tokens)
            found = self.stream.shard(shard)
            assert found is not None  # a shard that a sample came from
            part = found[1][offset : offset + count].astype(np.int64)
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts)


def chunks(line: Line) -> Iterator[np.ndarray]:
    """The tokens of a line, CHUNK at a time."""
    for start in range(0, line.tokens, CHUNK):
        yield line.read(start, min(CHUNK, line.tokens - start))


def training_lines(corpus: Corpus, served: list[int]) -> list[Line]:
    """A line for each training source; of streams, the shards of the first `served` sequences of each."""
    lines: list[Line] = []
    for number, component in enumerate(corpus.components):
        if component.stream is not None:
            if served[number]:
                per_shard = component.stream.shard_tokens // corpus.settings.sequence_length
                shards, end = -(-served[number] // per_shard), component.stream.end()
                lines.append(StreamedLine(component, number, min(shards, end[0]) if end else shards))
            continue
        assert component.split is not None
        begin = 0
        for span in component.split.spans:
            lines.append(WholeLine(component.split, span.label, component.domain, number, begin, span.tokens))
            begin += span.tokens
    return lines


def validation_lines(corpus: Corpus) -> list[Line]:
    """A line for each domain's held-out documents."""
    return [
        WholeLine(windows.split, f"validation of {name}", name, -1, 0, windows.split.tokens)
        for name, windows in corpus.validation.items()
    ]
