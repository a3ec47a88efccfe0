"""How far a build is, for whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from linnet.data.settings import Source
from linnet.data.sources.documents import limit_of
from linnet.data.sources.files import files_of

Progress = Callable[["BuildProgress"], None]


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is: the source at hand, its documents so far, its bytes of text so far.

    `share` is the part of the source that has been read, where it can be told. `note` says what keeps it,
    `doing` what is done with the source: carrying a finished store has bytes of shards and no documents.
    """

    source: str
    documents: int
    text_bytes: int
    share: float | None = None
    note: str = ""
    doing: str = "tokenising"


def silent(_: BuildProgress) -> None:
    """For builds that nobody watches."""


class WholeProgress:
    """What part of all sources has been read: in documents where all have a number, or in bytes of files."""

    def __init__(self, sources: list[Source]) -> None:
        self._sources = sources
        self._begun: tuple[str, ...] = ()
        self._share = 0.0
        self._text = 0

    @cached_property
    def _sizes(self) -> dict[str, float]:
        """By title, none where they cannot be told; asked for when something is built, not at every start."""
        limits = [limit_of(source) for source in self._sources]
        if all(limits):
            return {s.title: float(limit or 0) for s, limit in zip(self._sources, limits, strict=True)}
        if any(limits):
            return {}
        sizes = {s.title: [file.size for file in files_of(s)] for s in self._sources}
        if not all(all(size) for size in sizes.values()):
            return {}
        return {title: float(sum(map(int, filter(None, size)))) for title, size in sizes.items()}

    def part(self, source: Source, progress: Progress) -> Progress:
        """The progress of a source, told as that of all, once those before it are done."""
        earlier, text, at = self._begun, self._text, self._text
        self._begun = (*earlier, source.title)

        def tell(told: BuildProgress) -> None:
            nonlocal at
            at = self._text = max(at, text + told.text_bytes)
            sizes, share = self._sizes, None
            total = sum(sizes.values())
            if total and told.share is not None:
                done = sum(sizes[title] for title in earlier) + sizes[source.title] * told.share
                share = self._share = max(self._share, done / total)
            progress(replace(told, text_bytes=at, share=share))

        return tell
