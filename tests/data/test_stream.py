"""A stream's shards are the same whoever makes them, from wherever, how often, and after whatever happened."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from linnet.config import RequestError, RunError
from linnet.data.settings import Cleaning, Source
from linnet.data.shards.maker import Maker, Task
from linnet.data.shards.making import made
from linnet.data.shards.store import token_dtype
from linnet.data.shards.stream import Stream
from linnet.data.shards.stream_folder import Start, StreamFolder
from linnet.data.shards.tokenising import HeldOut
from linnet.data.sources.files import files_of
from linnet.text import Tokenizer

SHARD = 500


@pytest.fixture
def texts(tmp_path: Path, stories: list[str]) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for part in range(3):
        lines = [json.dumps({"text": text}) for text in stories[part::3]]
        (folder / f"part-{part}.jsonl").write_text("\n".join([*lines, "", json.dumps({"text": ""})]))
    return folder


@pytest.fixture
def task(tmp_path: Path, texts: Path, tokenizer: Tokenizer) -> Task:
    source = Source(path=str(texts), streaming=True)
    folder = tmp_path / "stream"
    folder.mkdir()
    return Task(folder, source, files_of(source), Cleaning(), tokenizer, HeldOut(0.1), Start(tokenizer.eos_id),
                SHARD, 4, 1, 2.0)  # fmt: skip


def stream_of(task: Task, told: list[str] | None = None) -> Stream:
    dtype = token_dtype(task.tokenizer.vocab_size)
    trouble = (told if told is not None else []).append
    return Stream(StreamFolder(task.folder), Maker(task), dtype, task.shard_tokens, task.first, task.keep,
                  task.source.title, trouble)  # fmt: skip


@pytest.fixture
def expected(task: Task, texts: Path) -> np.ndarray:
    """All training tokens, by a way of its own."""
    ids: list[int] = []
    for path in sorted(texts.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            text = json.loads(line)["text"] if line else ""
            if text and text.encode() not in task.held_out:
                ids += [*task.tokenizer.encode(text), task.tokenizer.eos_id]
    return np.array(ids)


def everything(stream: Stream) -> Iterator[np.ndarray]:
    index = 0
    while (found := stream.shard(index)) is not None:
        yield np.array(found[1])
        index += 1


def test_shards_hold_every_training_token_once_and_in_order(task: Task, expected: np.ndarray) -> None:
    shards = list(made(task, 0, task.first, print))
    assert [len(tokens) for _, tokens in shards[:-1]] == [SHARD] * (len(shards) - 1)
    assert np.array_equal(np.concatenate([tokens for _, tokens in shards]), expected)
    assert [facts.index for facts, _ in shards] == list(range(len(shards)))
    assert [facts.following is None for facts, _ in shards] == [False] * (len(shards) - 1) + [True]
    assert sum(facts.documents for facts, _ in shards) == int((expected == task.tokenizer.eos_id).sum())


def test_a_shard_can_be_made_from_its_start_alone(task: Task) -> None:
    shards = list(made(task, 0, task.first, print))
    for (facts, _), (after, tokens) in zip(shards[:-1:3], shards[1::3], strict=False):
        assert facts.following == after.start
        again = next(made(task, after.index, after.start, print))
        assert again[0] == after
        assert np.array_equal(again[1], tokens)


def test_a_limit_on_documents_holds_across_shards(task: Task) -> None:
    import dataclasses

    few = dataclasses.replace(task, source=task.source.model_copy(update={"documents": 301}))
    shards = list(made(few, 0, task.first, print))
    middle = shards[len(shards) // 2][0]
    again = list(made(few, middle.index, middle.start, print))
    assert [facts for facts, _ in again] == [facts for facts, _ in shards[middle.index :]]
    whole = list(made(task, 0, task.first, print))
    assert len(shards) < len(whole)


def test_a_process_makes_them_and_the_disk_limit_holds(task: Task, expected: np.ndarray) -> None:
    stream = stream_of(task)
    try:
        parts = []
        for tokens in everything(stream):
            parts.append(tokens)
            assert len(StreamFolder(task.folder).present()) <= task.keep
        assert np.array_equal(np.concatenate(parts), expected)
        assert len(parts) > 2 * task.keep
        first = stream.shard(0)  # dropped long ago
        assert first is not None
        assert np.array_equal(first[1], parts[0])
        assert stream.end() == (len(parts), len(parts[-1]))
    finally:
        stream.close()


def test_going_on_with_an_empty_cache_gives_the_same_shards(task: Task, tmp_path: Path) -> None:
    import dataclasses

    shards = [tokens for _, tokens in made(task, 0, task.first, print)]
    stream = stream_of(task)
    for index in range(6):
        stream.shard(index)
    state = json.loads(json.dumps(stream.state(5)))
    stream.close()
    empty = dataclasses.replace(task, folder=tmp_path / "elsewhere")
    again = stream_of(empty)
    again.restore(state)
    try:
        for index in range(5, len(shards)):
            found = again.shard(index)
            assert found is not None
            assert np.array_equal(found[1], shards[index])
        assert not (empty.folder / "00000003.json").exists(), "it was read from the beginning"
    finally:
        again.close()


def test_a_shard_that_vanishes_or_is_damaged_is_made_again(task: Task) -> None:
    shards = [tokens for _, tokens in made(task, 0, task.first, print)]
    for harm in (Path.unlink, lambda path: path.write_bytes(b"\0" * path.stat().st_size)):
        one = stream_of(task)
        one.shard(2)
        one.close()
        harm(StreamFolder(task.folder).bin(2))
        again = stream_of(task)
        try:
            found = again.shard(2)
            assert found is not None
            assert np.array_equal(found[1], shards[2])
        finally:
            again.close()


def test_text_that_changed_since_the_run_began_is_refused(task: Task, texts: Path, tmp_path: Path) -> None:
    import dataclasses

    stream = stream_of(task)
    stream.shard(3)
    state = stream.state(3)
    stream.close()
    file = texts / f"part-{state['start']['file']}.jsonl"
    file.write_text(file.read_text().replace("stone", "pebble"))
    again = stream_of(dataclasses.replace(task, folder=tmp_path / "elsewhere"))
    again.restore(state)
    try:
        with pytest.raises(RequestError, match="no longer what this run began with"):
            again.shard(3)
    finally:
        again.close()


def test_what_the_maker_cannot_read_is_told_by_the_reader(task: Task, texts: Path) -> None:
    (texts / "part-1.jsonl").write_text('{"text": "a"}\nnot json\n')
    stream = stream_of(task)
    try:
        with pytest.raises((RequestError, RunError), match=r"part-1.jsonl:2: this line is not JSON"):
            list(everything(stream))
    finally:
        stream.close()


def test_the_maker_is_replaced_when_it_is_killed(task: Task, expected: np.ndarray) -> None:
    stream = stream_of(task)
    try:
        parts = []
        for number, tokens in enumerate(everything(stream)):
            parts.append(tokens)
            if number in (1, 4) and stream.maker._process is not None:
                os.kill(stream.maker._process.pid, 9)
        assert np.array_equal(np.concatenate(parts), expected)
    finally:
        stream.close()


def test_a_maker_ends_with_its_reader(task: Task) -> None:
    stream = stream_of(task)
    stream.shard(0)
    process = stream.maker._process
    assert process is not None
    stream.close()
    assert process.returncode is not None
