"""The run's diary: one line an event, in a file that survives being killed.

A line is written by one call, so a killed process leaves at most one torn line, at the end. On
opening, a torn end is moved to a side file. A run that was killed and resumed has told some
steps twice: `effective` gives the history as if it had never been interrupted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from linnet.config.errors import RunError
from linnet.observe.events import (
    Anomaly,
    Event,
    Resumed,
    RunEnded,
    RunStarted,
    Sampled,
    Saved,
    from_record,
    to_record,
)


class EventLog:
    """An observer that appends each event to a file.

    Raises:
        RunError: when the file cannot be opened. A write that fails raises OSError and leaves
            the file as it was before that event.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _mend_end(self.path)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise RunError(
                f"cannot write the run's events ({error.strerror})",
                str(self.path),
                "choose another --run folder",
            ) from error

    def __call__(self, event: Event) -> None:
        """Append the event; it is on disk before the checkpoint that follows it is relied upon."""
        line = json.dumps(to_record(event), ensure_ascii=False, allow_nan=False, default=str) + "\n"
        data = line.encode("utf-8", "replace")
        end = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, data)
            if written != len(data):
                raise OSError(f"only {written} of {len(data)} bytes could be written to {self.path}")
        except OSError:
            os.ftruncate(self._file, end)
            raise
        if isinstance(event, Saved | RunEnded):
            os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _mend_end(path: Path) -> None:
    """Move what follows the last whole line to a side file, `events.jsonl.torn`."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start, tail = size, b""
        while start > 0 and b"\n" not in tail:
            start = max(0, start - 65536)
            file.seek(start)
            tail = file.read(size - start)
        keep = start + tail.rfind(b"\n") + 1 if b"\n" in tail else 0
        if keep == size:
            return
        file.seek(keep)
        torn = file.read()
        if _record(torn) is not None:  # all there but the end of the line
            file.write(b"\n")
            return
        with path.with_name(path.name + ".torn").open("ab") as side:
            side.write(torn + b"\n")
        file.truncate(keep)


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def read_records(path: str | Path) -> Iterator[dict[str, Any]]:
    """The file's objects in order; an unfinished last line (a run that is being written) is left out.

    Raises:
        RunError: when the file cannot be read, or a whole line is not a JSON object.
    """
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                record = _record(line)
                if record is None:
                    raise RunError("this line is not a JSON object", f"{path}:{number}", "remove the line")
                yield record
    except OSError as error:
        raise RunError(f"cannot read the run's events ({error.strerror})", str(path)) from error


def read_events(path: str | Path) -> Iterator[Event]:
    """The file's events in order; kinds that this version does not know are left out.

    Raises:
        RunError: as `read_records`.
    """
    for record in read_records(path):
        event = from_record(record)
        if event is not None:
            yield event


class _Stage:
    """One stage's history: what earlier processes told and still counts, and what this one told."""

    def __init__(self) -> None:
        self.start: RunStarted | None = None
        self.settled: list[Event] = []
        self.told: list[Event] = []
        self.waiting: RunStarted | None = None  # started again; what follows says from where

    def add(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.waiting = None if self.start is None else event
            self.start = self.start or event
            return
        if isinstance(event, Resumed):
            self._go_on_from(event.step)
            return
        if self.waiting is not None and self.waiting.step > 0:
            self._go_on_from(self.waiting.step)
        elif self.waiting is not None:
            self.start, self.settled, self.told, self.waiting = self.waiting, [], [], None
        self.settled = [old for old in self.settled if not _same_moment(old, event)]
        self.told.append(event)

    def _go_on_from(self, step: int) -> None:
        so_far = self.settled + self.told
        self.settled = [old for old in so_far if old.step <= step and not isinstance(old, RunEnded)]
        self.told, self.waiting = [], None

    def events(self) -> list[Event]:
        return ([self.start] if self.start else []) + self.settled + self.told


def _same_moment(old: Event, new: Event) -> bool:
    """Whether a resumed process tells again what an earlier one told."""
    if type(old) is not type(new) or old.step != new.step or isinstance(new, Anomaly):
        return False
    return old.prompt == new.prompt if isinstance(old, Sampled) and isinstance(new, Sampled) else True


def effective(events: Iterable[Event]) -> list[Event]:
    """The history that counts: as if the run had never been interrupted, stage after stage.

    Where a stage was resumed after step s, what the interrupted process had told of later steps
    is superseded, and so are its end and the second start. A stage that began again from
    nothing supersedes all of its earlier history.
    """
    stages: dict[str, _Stage] = {}
    stage = ""
    for event in events:
        if isinstance(event, RunStarted):
            stage = event.stage
        stages.setdefault(stage, _Stage()).add(event)
    return [event for history in stages.values() for event in history.events()]
