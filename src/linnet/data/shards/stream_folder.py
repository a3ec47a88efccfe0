"""A stream's shards on disk, and the notes that its readers and its maker leave each other.

    <cache>/streams/<key>/
      00000007.bin        raw tokens
      00000007.json       where it starts and the next one does, its counts and sha256
      end.json            how many shards there are, once the source has been read to its end
      readers/            what each reading process wants next, and whether it waits
      maker.lock  trouble.json  error.json

Every file appears whole or not at all, and any of them may vanish: what cannot be found is made again.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np


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
            path = self.bin(facts.index)
            _put(path, tokens.data, path.with_suffix(f".{os.getpid()}.part"))
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
        _put(self.path / name, json.dumps(value).encode(), aside)


def _put(path: Path, content: bytes | memoryview, aside: Path) -> None:
    """Write a file whole or not at all, without waiting for the disk: what a power cut takes is made again."""
    try:
        aside.write_bytes(content)
        aside.replace(path)
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
