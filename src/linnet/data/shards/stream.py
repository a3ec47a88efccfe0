"""A source read as shards that are made just in time, by a process that runs ahead of the reader.

All shards of a stream hold the same number of tokens, so which shard and which of its windows a
sample needs is arithmetic, known before anything was read. What a shard holds follows from where
it starts (a file, a row, a token of that row's document); starts are kept beside the shards and
in checkpoints. So shards can be dropped when the disk limit is reached, deleted by anybody, or
lost with the machine, and come back the same: the reader asks for what it misses, and the maker
goes back to the nearest start that is known.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from time import sleep, time
from typing import Any

import numpy as np

from linnet.config import LinnetError, RequestError, RunError
from linnet.data.shards.maker import Maker, Trouble
from linnet.data.shards.stream_folder import Facts, Start, StreamFolder

_OPEN = 4  # shards held open by a reader
_REMEMBERED = 64  # shards whose places a reader knows by heart, so that it can go on when the folder is lost
_MOST_AHEAD = 32  # shards; minutes of a fast GPU, which outlast most trouble with a network
_POLL = 0.01


def _remember(kept: OrderedDict[int, Any], index: int, value: Any, most: int) -> None:
    """Keep the latest values only."""
    kept[index] = value
    kept.move_to_end(index)
    while len(kept) > most:
        kept.popitem(last=False)


def _never() -> bool:
    return False


class Stream:
    """The reading end: shards by number, waited for when they are not there yet.

    Args:
        maker: starts and watches the process that makes shards.
        shard_tokens: in every shard but the last.
        first: where shard 0 starts.
        keep: the most shards that may lie on disk.
        trouble: is told what keeps the source from answering, one line at a time.
    """

    def __init__(
        self, folder: StreamFolder, maker: Maker, dtype: np.dtype, shard_tokens: int, first: Start, keep: int,
        title: str, trouble: Trouble,
    ) -> None:  # fmt: skip
        self.folder, self.maker, self.dtype, self.shard_tokens = folder, maker, dtype, shard_tokens
        self.first, self.keep, self.title, self.trouble = first, keep, title, trouble
        self.until: int | None = None  # the last shard that will be wanted, where that is known
        self.interrupted: Callable[[], bool] = _never  # ends the waiting for a shard with an error
        self._lock = threading.RLock()
        self._open: OrderedDict[int, tuple[Facts, np.ndarray]] = OrderedDict()
        self._expected: dict[int, str] = {}
        self._end: tuple[int, int] | None = None
        self._known: OrderedDict[int, Facts] = OrderedDict()
        self._wanted: dict[str, list[int]] | None = None
        self._served = 0
        self._told = ""
        self._since = time()

    def shard(self, index: int) -> tuple[Facts, np.ndarray] | None:
        """A shard's facts and tokens, or None when the source ends before it; waits until it is there.

        Raises:
            LinnetError: when it cannot be made, or is not what it was when the run began.
        """
        with self._lock:
            if index in self._open:
                self._open.move_to_end(index)
                return self._open[index]
            found = self._wait(index)
            if found is None:
                return None
            self._served += 1
            _remember(self._open, index, found, _OPEN)
            _remember(self._known, index, found[0], _REMEMBERED)
            self.maker.worked()
            self._want(index)
            return found

    def prepare(self, index: int) -> None:
        """Have a shard made that will be asked for soon, without waiting for it."""
        if not self._lock.acquire(blocking=False):
            return  # another thread is at it
        try:
            if index not in self._open and not self.folder.bin(index).exists():
                self._want(index)
        finally:
            self._lock.release()

    def end(self) -> tuple[int, int] | None:
        """How many shards there are and how many tokens the last has, where that is known already."""
        if self._end is None:
            self._end = self.folder.end()
        return self._end

    def _wait(self, index: int) -> tuple[Facts, np.ndarray] | None:
        tried = 0
        while True:
            end = self.end()
            if end and index >= end[0]:
                self._want(index)
                return None
            found = self._mapped(index)
            if found:
                return found
            self._want(index, waits=True)
            self._listen()
            self.maker.ensure()
            if self.interrupted():
                raise RunError("asked to stop while waiting for it", self.title)
            tried += 1
            sleep(min(0.1, _POLL * (1 + tried / 50)))

    def _want(self, index: int, waits: bool = False) -> None:
        """Tell the maker what is needed now, and next; further ahead the more has been read."""
        ahead = min(self.keep - 1, _MOST_AHEAD, 1 + 2 * self._served)
        wants = list(range(index, index + ahead + 1))
        if end := self.end():
            wants = list(dict.fromkeys(want % end[0] for want in wants)) if index < end[0] else []
        elif self.until is not None:
            wants = [want for want in wants if want <= max(index, self.until)]
        told = {"waits": [index] if waits else [], "wants": wants}
        name = f"readers/{os.getpid()}.json"
        if told == self._wanted and (self.folder.path / name).exists():
            return
        self._remind(index)
        self.folder.write(name, told)
        self._wanted = told
        if not waits and not all(self.folder.bin(want).exists() for want in wants):
            self.maker.ensure()

    def _remind(self, index: int) -> None:
        """Write down where a shard starts when the folder no longer says so; else all before it is read again."""
        start = self._start_of(index)
        if start is not None and self.folder.start_of(index, self.first)[0] != index:
            self.folder.write(f"{index:08d}.start.json", asdict(start))

    def _start_of(self, index: int) -> Start | None:
        """Where a shard starts, by heart."""
        if index in self._known:
            return self._known[index].start
        before = self._known.get(index - 1)
        return before.following if before else None

    def _mapped(self, index: int) -> tuple[Facts, np.ndarray] | None:
        facts = self.folder.facts(index)
        if facts is None:
            return None
        try:
            tokens = np.asarray(np.memmap(self.folder.bin(index), self.dtype, "r", shape=(facts.tokens,)))
        except (OSError, ValueError):
            return None
        known = self._known.get(index, facts)
        expected = self._expected.get(index, known.sha256)
        if hashlib.sha256(tokens.data).hexdigest() == expected == facts.sha256:
            return facts, tokens
        if facts.sha256 != expected:
            raise RequestError(
                f"its text is no longer what this run began with (shard {index}, from row {facts.start.row} of "
                f"file {facts.start.file + 1})", self.title, "restore it, or start another run with --run DIR",
            )  # fmt: skip
        self.folder.bin(index).unlink(missing_ok=True)  # damaged on disk: to be made again
        return None

    def _listen(self) -> None:
        """Hand on what the maker says; an error of its ends the waiting."""
        said = self.folder.read("trouble.json")
        if said and said["what"] != self._told and said["time"] >= self._since:
            self._told = said["what"]
            self.trouble(f"{self.title}: {self._told}")
        error = self.folder.read("error.json")
        if error and error["time"] >= self._since:
            kind: type[LinnetError] = RequestError if error["request"] and not self._served else RunError
            raise kind(error["what"], error["where"], error["mend"])

    def state(self, index: int) -> dict[str, Any]:
        """What a resumed run with an empty cache needs to go on at a shard."""
        by_heart = self._start_of(index)  # not under the lock, which a thread that waits for a shard holds
        near, start = (index, by_heart) if by_heart else self.folder.start_of(index, self.first)
        facts = self._known.get(near) or self.folder.facts(near)
        return {
            "shard": near,
            "start": asdict(start),
            "sha256": facts.sha256 if facts else None,
            "end": list(end) if (end := self.end()) else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take in what `state` gave, in another process or on another machine."""
        index = state["shard"]
        self.folder.path.mkdir(parents=True, exist_ok=True)
        if self.folder.facts(index) is None:
            self.folder.write(f"{index:08d}.start.json", state["start"])
        if state["sha256"]:
            self._expected[index] = state["sha256"]
        if state["end"] and self.folder.end() is None:
            self.folder.write("end.json", dict(zip(("shards", "tokens"), state["end"], strict=True)))

    def close(self) -> None:
        """Stop wanting; the maker ends with its last reader."""
        (self.folder.readers / f"{os.getpid()}.json").unlink(missing_ok=True)
        self.maker.close()
