"""The event file: whole lines, mended ends, and the history that counts after resumes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from linnet.config import RunError
from linnet.observe import (
    Anomaly,
    Evaluated,
    Event,
    EventLog,
    Resumed,
    RunEnded,
    RunStarted,
    Sampled,
    Saved,
    StepDone,
    effective,
    read_events,
    to_record,
)


def step(number: int, loss: float | None = None) -> StepDone:
    return StepDone(number, {"train/loss": float(number) if loss is None else loss}, time=0.0)


def started(at: int = 0, stage: str = "pretrain") -> RunStarted:
    return RunStarted(
        at, recipe="r", total_steps=9, parameters=1, tokens_per_step=1, stage=stage, time=float(at)
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "events.jsonl"
    events: list[Event] = [
        started(),
        step(1),
        step(2, float("inf")),
        Sampled(2, prompt="é", text="ü\n", time=0.0),
    ]
    log = EventLog(path)
    for event in events:
        log(event)
    assert list(read_events(path)) == events  # while it is still open
    log.close()
    again = EventLog(path)
    again(step(3))
    again.close()
    assert list(read_events(path)) == [*events, step(3)]


def test_a_torn_end_is_cut_off_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    line = (json.dumps(to_record(step(2))) + "\n").encode()
    whole = (json.dumps(to_record(step(1))) + "\n").encode()
    for cut in range(len(line) + 1):
        path.write_bytes(whole + line[:cut])
        complete = cut >= len(line) - 1  # all but the end of the line is a whole record
        assert list(read_events(path)) == ([step(1), step(2)] if cut == len(line) else [step(1)])
        log = EventLog(path)
        log(step(3))
        log.close()
        assert list(read_events(path)) == ([step(1), step(2), step(3)] if complete else [step(1), step(3)])
    assert (tmp_path / "events.jsonl.torn").read_bytes().startswith(line[:1] + b"\n" + line[:2] + b"\n")


def test_a_torn_end_longer_than_a_block_is_found(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    whole = (json.dumps(to_record(step(1))) + "\n").encode()
    path.write_bytes(whole + b'{"event": "sampled", "text": "' + b"x" * 200_000)
    EventLog(path).close()
    assert path.read_bytes() == whole


def test_only_a_torn_line_leaves_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "st')
    EventLog(path).close()
    assert path.read_bytes() == b""


def test_a_write_that_fails_leaves_no_torn_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log(step(1))
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))  # as a full disk does
    with pytest.raises(OSError, match="only 7 of"):
        log(step(2))
    monkeypatch.undo()
    log(step(3))
    log.close()
    assert list(read_events(path)) == [step(1), step(3)]


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "step", "step": 1, "time": 0}\nnot json\n{"event": "step"}\n')
    with pytest.raises(RunError, match=r"events\.jsonl:2: this line is not a JSON object; remove the line"):
        list(read_events(path))


def test_a_missing_or_unwritable_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot read the run's events"):
        list(read_events(tmp_path / "none.jsonl"))
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the run's events"):
        EventLog(tmp_path / "file" / "events.jsonl")


WRITER = """
import sys
from linnet.observe import EventLog, StepDone
log = EventLog(sys.argv[1])
print("ready", flush=True)
for step in range(1, 10**9):
    log(StepDone(step, {"train/loss": 1.0 / step, "padding": 3.0}))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_writer_leaves_whole_lines_in_order(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(random.uniform(0.02, 0.06))
            process.kill()
        EventLog(path).close()
    steps = [event.step for event in read_events(path)]
    assert len(steps) == len(path.read_bytes().splitlines())
    runs = [index for index, number in enumerate(steps) if number == 1]
    assert len(runs) == 3
    for start, end in zip(runs, [*runs[1:], len(steps)], strict=True):
        assert steps[start:end] == list(range(1, end - start + 1))


def uninterrupted(total: int) -> list[Event]:
    events: list[Event] = [started()]
    for number in range(1, total + 1):
        events.append(step(number))
        if number % 3 == 0:
            events += [
                Evaluated(number, {"val/loss": float(number)}, time=0.0),
                Sampled(number, prompt="a", text="b", time=0.0),
                Sampled(number, prompt="c", text="d", time=0.0),
                Saved(number, path=f"step-{number}", seconds=0.1, time=0.0),
            ]
    return [*events, RunEnded(total, reason="finished", seconds=1.0, time=0.0)]


@pytest.mark.parametrize("seed", range(30))
def test_a_run_killed_and_resumed_reads_like_an_uninterrupted_one(seed: int) -> None:
    random_ = random.Random(seed)
    plain = uninterrupted(12)
    told: list[Event] = []
    begin, saved = 0, 0
    for _ in range(random_.randint(1, 4)):
        end = random_.randint(begin + 1, len(plain) - 1) if begin + 1 < len(plain) else len(plain)
        told += plain[begin:end]
        if random_.random() < 0.3:
            told.append(RunEnded(plain[end - 1].step, reason="stopped", seconds=1.0))
        saved = max([event.step for event in plain[:end] if isinstance(event, Saved)], default=0)
        if saved == 0:
            begin = 0  # nothing to resume from: it starts again
            continue
        told += [started(random_.choice([0, saved])), Resumed(saved, path="x")]
        begin = 1 + next(i for i, e in enumerate(plain) if isinstance(e, Saved) and e.step == saved)
    told += plain[begin:]
    assert effective(told) == plain


def test_what_is_told_again_at_the_resumed_step_counts_once() -> None:
    told = [
        *[started(), step(1), step(2), Saved(2, path="x", seconds=0.1, time=0.0)],
        Evaluated(2, {"val/loss": 1.0}, time=0.0),
        Resumed(2, path="x"),
        Evaluated(2, {"val/loss": 1.0}, time=9.0),
        step(3),
    ]
    assert [event.step for event in effective(told) if isinstance(event, Evaluated)] == [2]
    assert effective(told)[-2:] == [Evaluated(2, {"val/loss": 1.0}, time=9.0), step(3)]


def test_anomalies_of_superseded_steps_are_forgotten_and_others_kept() -> None:
    told = [
        started(),
        step(1),
        Anomaly(1, what="a"),
        step(2),
        Anomaly(2, what="b"),
        Resumed(1, path="x"),
        step(2),
    ]
    assert [event.what for event in effective(told) if isinstance(event, Anomaly)] == ["a"]


def test_a_stage_s_resume_leaves_the_other_stages_alone() -> None:
    told = [
        *[started(), step(1), step(2), step(3), RunEnded(3, reason="finished", seconds=1.0)],
        *[
            started(stage="sft"),
            step(1),
            step(2),
            started(1, stage="sft"),
            Resumed(1, path="x"),
            step(2, 7.0),
        ],
    ]
    history = effective(told)
    assert [event.step for event in history] == [0, 1, 2, 3, 3, 0, 1, 2]
    assert history[-1] == step(2, 7.0)


def test_a_second_start_that_has_told_nothing_yet_changes_nothing() -> None:
    told = [started(), step(1), step(2)]
    assert effective([*told, started()]) == told
    assert effective([*told, started(), step(1, 5.0)]) == [started(), step(1, 5.0)]
    assert effective([*told, started(1), step(2, 5.0)]) == [started(), step(1), step(2, 5.0)]
