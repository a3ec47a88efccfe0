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
      readers/            what each reading process wants next
      maker.lock  trouble.json  error.json
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

import numpy as np

from linnet.config import LinnetError, RequestError, RunError
from linnet.data.shards.maker import Maker, Trouble

_OPEN = 4  # shards held open by a reader
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
        for near in range(index, 0, -1):
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
        return [int(path.stem) for path in sorted(bins, key=_age)]

    def wants(self) -> list[int]:
        """The shards that readers want, the most urgent first; readers that are gone are forgotten."""
        lists: list[list[int]] = []
        for path in self.readers.glob("*.json"):
            if alive(int(path.stem)):
                lists.append((self.read(f"readers/{path.name}") or {}).get("wants", []))
            else:
                path.unlink(missing_ok=True)
        most = max(map(len, lists), default=0)
        urgent = (wanted[place] for place in range(most) for wanted in lists if place < len(wanted))
        return list(dict.fromkeys(urgent))

    def read(self, name: str) -> Any:
        """A JSON file, or None where there is none that is whole."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def write(self, name: str, value: Any) -> None:
        """A JSON file, whole or not at all."""
        aside = self.path / f"{name}.{os.getpid()}.{threading.get_ident()}.part"
        try:
            aside.write_text(json.dumps(value), encoding="utf-8")
            aside.replace(self.path / name)
        finally:
            aside.unlink(missing_ok=True)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def alive(process: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


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
        self._lock = threading.RLock()
        self._open: OrderedDict[int, tuple[Facts, np.ndarray]] = OrderedDict()
        self._expected: dict[int, str] = {}
        self._end: tuple[int, int] | None = None
        self._wanted: list[int] = []
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
            if found is not None:
                self._served += 1
                self._open[index] = found
                while len(self._open) > _OPEN:
                    self._open.popitem(last=False)
            return found

    def end(self) -> tuple[int, int] | None:
        """How many shards there are and how many tokens the last has, where that is known already."""
        if self._end is None:
            self._end = self.folder.end()
        return self._end

    def _wait(self, index: int) -> tuple[Facts, np.ndarray] | None:
        self._want(index)
        tried, since = 0, monotonic()
        while True:
            end = self.end()
            if end and index >= end[0]:
                return None
            found = self._mapped(index)
            if found:
                return found
            self._listen()
            self.maker.ensure()
            tried += 1
            sleep(min(0.1, _POLL * (1 + tried / 50)))
            if monotonic() - since > 5:  # somebody may have cleaned up the readers' folder
                self._wanted, since = [], monotonic()
                self._want(index)

    def _want(self, index: int) -> None:
        """Tell the maker what is needed now, and next; further ahead the more has been read."""
        ahead = min(self.keep - 1, _MOST_AHEAD, 1 + 2 * self._served)
        wants = list(range(index, index + ahead + 1))
        if end := self.end():
            wants = list(dict.fromkeys(want % end[0] for want in wants)) if index < end[0] else []
        elif self.until is not None:
            wants = [want for want in wants if want <= max(index, self.until)]
        if wants != self._wanted:
            self.folder.readers.mkdir(parents=True, exist_ok=True)
            self.folder.write(f"readers/{os.getpid()}.json", {"wants": wants})
            self._wanted = wants

    def _mapped(self, index: int) -> tuple[Facts, np.ndarray] | None:
        facts = self.folder.facts(index)
        if facts is None:
            return None
        try:
            tokens = np.asarray(np.memmap(self.folder.bin(index), self.dtype, "r", shape=(facts.tokens,)))
        except (OSError, ValueError):
            return None
        expected = self._expected.get(index, facts.sha256)
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
        if said and said["what"] != self._told:
            self._told = said["what"]
            self.trouble(f"{self.title}: {self._told}")
        error = self.folder.read("error.json")
        if error and error["time"] >= self._since:
            kind: type[LinnetError] = RequestError if error["request"] and not self._served else RunError
            raise kind(error["what"], error["where"], error["mend"])

    def state(self, index: int) -> dict[str, Any]:
        """What a resumed run with an empty cache needs to go on at a shard."""
        with self._lock:
            near, start = self.folder.start_of(index, self.first)
            facts = self.folder.facts(near)
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
