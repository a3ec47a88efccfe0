"""A source read as shards that are made just in time, by a process that runs ahead of the reader.

All shards of a stream hold the same number of tokens, so which shard and which of its windows a
sample needs is arithmetic, known before anything was read. What a shard holds follows from where
it starts (a file, a row, a token of that row's document); starts are kept beside the shards and
in checkpoints. So shards can be dropped when the disk limit is reached, deleted by anybody, or
lost with the machine, and come back the same: the reader asks for what it misses, and the maker
goes back to the nearest start that is known.

    <cache>/streams/<key>/
      00000007.bin        raw tokens
      00000007.json       where it starts and the next one does, its counts and sha256
      end.json            how many shards there are, once the source has been read to its end
      readers/            what each reading process wants next, and whether it waits
      maker.lock  trouble.json  error.json
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import sleep, time
from typing import Any

import numpy as np

from linnet.config import LinnetError, RequestError, RunError
from linnet.data.shards.maker import Maker, Trouble

_OPEN = 4  # shards held open by a reader
_REMEMBERED = 64  # shards whose places a reader knows by heart, so that it can go on when the folder is lost
_MOST_AHEAD = 32  # shards; minutes of a fast GPU, which outlast most trouble with a network
_POLL = 0.01


@dataclass(frozen=True)
class Start:
    """Where a shard starts: at token `offset` of the document at (file, row).

    documents: how many of the source lie before that one. before: the token before, an EOS at the beginning.
    """

    before: int
    file: int = 0
    row: int = 0
    offset: int = 0
    documents: int = 0


@dataclass(frozen=True)
class Facts:
    """A shard that has been made.

    following: where the next starts; None when it is the last. documents: that begin in it. text_bytes:
    of the documents that end in it.
    """

    index: int
    start: Start
    following: Start | None
    tokens: int
    documents: int
    text_bytes: int
    sha256: str


class StreamFolder:
    """The files of a stream; every one appears whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.readers = path / "readers"

    def bin(self, index: int) -> Path:
        """The tokens of a shard."""
        return self.path / f"{index:08d}.bin"

    def facts(self, index: int) -> Facts | None:
        """What is known of a shard that was made, be its tokens still there or not."""
        found = self.read(f"{index:08d}.json")
        if found is None:
            return None
        following = found.pop("following")
        return Facts(start=Start(**found.pop("start")), following=following and Start(**following), **found)

    def keep(self, facts: Facts, tokens: np.ndarray | None) -> None:
        """Write down a shard; without its tokens when nobody wants them."""
        self.path.mkdir(parents=True, exist_ok=True)
        if tokens is not None:
            aside = self.bin(facts.index).with_suffix(f".{os.getpid()}.part")
            try:
                aside.write_bytes(tokens.data)
                aside.replace(self.bin(facts.index))
            finally:
                aside.unlink(missing_ok=True)
        if facts.following is None:  # first, so that whoever finds the last shard knows that it is
            self.write("end.json", {"shards": facts.index + 1, "tokens": facts.tokens})
        self.write(f"{facts.index:08d}.json", asdict(facts))

    def start_of(self, index: int, first: Start) -> tuple[int, Start]:
        """The nearest shard at or before `index` whose start is known, and that start."""
        told = {int(path.name[:8]) for path in self.path.glob("*.json") if path.name[:8].isdigit()}
        for near in sorted({number + more for number in told for more in (0, 1)}, reverse=True):
            if not 0 < near <= index:
                continue
            if start := self.read(f"{near:08d}.start.json"):
                return near, Start(**start)
            if facts := self.facts(near):
                return near, facts.start
            if (before := self.facts(near - 1)) and before.following:
                return near, before.following
        return 0, first

    def end(self) -> tuple[int, int] | None:
        """How many shards there are and how many tokens the last one has, once that is known."""
        found = self.read("end.json")
        return (found["shards"], found["tokens"]) if found else None

    def present(self) -> list[int]:
        """Shards whose tokens are there, the longest there first."""
        bins = [path for path in self.path.glob("*.bin") if path.stem.isdigit()]
        return [int(path.stem) for path in sorted(bins, key=age_of)]

    def wants(self) -> list[int]:
        """The shards that readers want, the most urgent first; readers that are gone are forgotten.

        What a reader waits for goes before what others will want: it may be all of them that wait for it.
        """
        told = []
        for path in self.readers.glob("*.json"):
            if alive(int(path.stem)):
                told.append(self.read(f"readers/{path.name}") or {"waits": [], "wants": []})
            else:
                path.unlink(missing_ok=True)
        waited = sorted(index for one in told for index in one["waits"])
        lists = [one["wants"] for one in told]
        most = max(map(len, lists), default=0)
        urgent = (wanted[place] for place in range(most) for wanted in lists if place < len(wanted))
        return list(dict.fromkeys([*waited, *urgent]))

    def drop_leavings(self) -> None:
        """Remove shards that a maker had begun to write when it was killed."""
        for path in self.path.glob("*.part"):
            parts = path.name.split(".")
            if len(parts) == 3 and parts[1].isdigit() and not alive(int(parts[1])):
                path.unlink(missing_ok=True)

    @property
    def idle(self) -> bool:
        """Whether no process of this machine reads it."""
        return not any(alive(int(path.stem)) for path in self.readers.glob("*.json"))

    def read(self, name: str) -> Any:
        """A JSON file, or None where there is none that is whole."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def write(self, name: str, value: Any) -> None:
        """A JSON file, whole or not at all."""
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)  # somebody may have cleaned up
        aside = self.path / f"{name}.{threading.get_ident()}.{os.getpid()}.part"
        try:
            aside.write_text(json.dumps(value), encoding="utf-8")
            aside.replace(self.path / name)
        finally:
            aside.unlink(missing_ok=True)


def age_of(path: Path) -> float:
    """When a file was written, as a number that grows; 0 when it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def size_of(path: Path) -> int:
    """The bytes of a file; 0 when it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def alive(process: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


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
