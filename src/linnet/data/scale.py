"""Building token stores with datatrove's executors: on many processes here, through Slurm, or through Ray.

Each task of an executor makes its part of the pieces; see parts.py. Nothing flows from step to step, so
this one stands alone in its pipeline, and whatever ran says in the end what a build has to put together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from linnet.config import RequestError
from linnet.data.parts import Part, build_part
from linnet.data.settings import DataSettings
from linnet.data.sources.hub import commit_of, commits, pin
from linnet.text import Tokenizer, load_tokenizer

try:
    from datatrove.pipeline.base import PipelineStep
except ImportError:
    raise RequestError("this needs the datatrove library", "linnet.data.scale",
                       "pip install 'linnet[scale]'") from None  # fmt: skip


class _Work:
    """What every task needs. Executors write a step's attributes down as text: URLs in them may hold secrets,
    so this shows none of what it holds.
    """

    def __init__(self, settings: DataSettings, tokenizer: Tokenizer, commits: Mapping[str, str]) -> None:
        self.settings, self.tokenizer, self.commits = settings, tokenizer, dict(commits)


class BuildPieces(PipelineStep):  # type: ignore[misc]
    """Makes a task's part of the pieces of every source that is built whole, in the cache that all share.

    Args:
        settings: a recipe's data section; `cache_dir` (or LINNET_CACHE) must be one folder to all machines.
        tokenizer: a tokenizer, or the name of one that was trained already.
        processes: that tokenise in each task. Executors give a task one core unless told otherwise.
    """

    name = "tokens"
    type = "LINNET"

    def __init__(self, settings: DataSettings, tokenizer: Tokenizer | str, processes: int = 1) -> None:
        super().__init__()
        if isinstance(tokenizer, str):
            tokenizer = load_tokenizer(tokenizer)
        for source in settings.all_sources:
            if source.dataset:
                commit_of(source)  # now and here, so that no task reads a later one
        self.work = _Work(settings, tokenizer, commits())
        self.processes = processes

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Make part `rank` + 1 of `world_size`, and hand on what came before.

        Raises:
            RequestError, RunError: as `build_part`.
        """
        yield from data or ()
        pin(self.work.commits)
        part = Part(rank + 1, world_size)
        with self.track_time(unit="task"):
            done = build_part(self.work.settings, self.work.tokenizer, part, processes=self.processes)
        self.stat_update("pieces_made", value=done.made, unit="task")
        self.stat_update("pieces_left", value=done.left, unit="task")
