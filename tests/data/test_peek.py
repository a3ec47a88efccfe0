from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from stores import build
from typer.testing import CliRunner

from linnet.cli.main import app
from linnet.cli.progress import BuildLine
from linnet.config import RequestError
from linnet.data.batches import Windows
from linnet.data.peek import describe, show
from linnet.data.settings import DataSettings
from linnet.data.shards.progress import BuildProgress
from linnet.data.training import TrainBatches
from linnet.text import Tokenizer


@pytest.fixture
def batches(
    stories: list[str],
    text_file: Callable[..., Path],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
) -> TrainBatches:
    texts = [f"{story} \x1b[31m\x07 bell" if i % 9 == 0 else story for i, story in enumerate(stories)]
    store = build(settings_for(text_file(texts)), tokenizer)
    return TrainBatches.over(Windows(store.train, 128, store.eos_id, True), 4, seed=1)


def test_a_sample_s_hash_is_of_its_first_input_and_its_targets(batches: TrainBatches) -> None:
    for sample in range(20):
        facts = describe(batches, sample)
        batch = batches[sample // 4].rows(sample % 4, sample % 4 + 1)
        ids = [int(batch.tokens[0, 0]), *batch.targets[0, : facts["tokens"] - 1].tolist()]
        assert facts["sha256"] == hashlib.sha256(b"".join(i.to_bytes(8, "little") for i in ids)).hexdigest()
        assert facts["sample"] == sample


def test_the_view_shows_documents_borders_and_targets(batches: TrainBatches, tokenizer: Tokenizer) -> None:
    text = show(batches, tokenizer, 0, 128, colour=False)
    row = batches[0].rows(0, 1)
    borders = int((row.tokens[0] == tokenizer.eos_id).sum())
    assert text.count("── a document begins ──") == borders
    assert "128 of 128 targets are counted; documents are masked" in text
    shown = re.findall(r"^ +(\d+) +(\d+)  ('.*'|\".*\") +→  ('.*'|\".*\")$", text, re.M)
    assert len(shown) > 3 * borders
    for place, position, _, target in shown:
        assert int(position) == row.positions[0, int(place)]
        assert target == repr(tokenizer.decode([int(row.targets[0, int(place)])], skip_special=False))
    assert "\x1b" not in text
    assert "more places" in show(batches, tokenizer, 0, 20, colour=False)


def test_colours_are_for_terminals_and_text_cannot_steer_one(
    batches: TrainBatches, tokenizer: Tokenizer
) -> None:
    for sample in range(describe(batches, 0)["of"]):
        text = show(batches, tokenizer, sample, 128, colour=True)
        assert not re.sub(r"\x1b\[(1|2|3[2-6])m|\x1b\[0m", "", text).count("\x1b")
        assert "\x07" not in text


def test_places_that_are_not_counted_are_marked(batches: TrainBatches, tokenizer: Tokenizer) -> None:
    last = describe(batches, 0)["of"] - 1
    sample = next(i for i in range(last + 1) if describe(batches, i)["window"] == last)
    text = show(batches, tokenizer, sample, 128, colour=False)
    counted = describe(batches, sample)["tokens"] - 1
    assert counted < 128
    assert f"{counted} of 128 targets are counted" in text
    assert f"── {128 - counted} places that are not counted ──" in text
    assert "→  (not counted)" in text


RECIPE = """
name: tiny
tokenizer: {name: trained, vocab_size: 300}
model:
  {architecture: llama, vocab_size: 300, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2,
   num_key_value_heads: 2, intermediate_size: 64, max_position_embeddings: 64, tie_word_embeddings: true}
pretrain:
  duration: 2 steps
  train_batch_size: 4
  learning_rate: 1e-3
  data: {sources: FILE, sequence_length: 64, preprocessing_processes: 1}
"""


def test_the_command_builds_and_shows(
    tmp_path: Path, stories: list[str], text_file: Callable[..., Path]
) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.replace("FILE", str(text_file(stories))))
    run = CliRunner()
    facts = json.loads(run.invoke(app, ["data", "build", str(recipe), "--json"]).stdout)
    assert facts["train_documents"] + facts["validation_documents"] == len(stories)
    assert facts["damaged"] == []
    peek = ["data", "peek", str(recipe), "--range", "0:64", "--json"]
    lines = [json.loads(line) for line in run.invoke(app, peek).stdout.splitlines()]
    assert [line["sample"] for line in lines] == list(range(64))
    keys = {"sample", "source", "epoch", "window", "of", "shard", "tokens", "sha256"}
    assert all(set(line) == keys for line in lines)
    other = run.invoke(app, [*peek, "pretrain.train_batch_size=16"])
    assert [json.loads(line) for line in other.stdout.splitlines()] == lines
    human = run.invoke(app, ["data", "peek", str(recipe), "--range", "0:1", "--tokens", "64"]).stdout
    assert "sample 0 from" in human
    assert "\x1b" not in human
    for word in ("3", "5:5", "6:2", "a:b", "-1:2"):
        assert isinstance(
            run.invoke(app, ["data", "peek", str(recipe), "--range", word]).exception, RequestError
        )


def test_the_command_trains_a_tokenizer(
    tmp_path: Path, stories: list[str], text_file: Callable[..., Path]
) -> None:
    run, out = CliRunner(), tmp_path / "mine"
    words = ["data", "tokenizer", str(text_file(stories)), "--vocab-size", "300", "--out", str(out)]
    assert "300 tokens" in run.invoke(app, words).stdout
    assert Tokenizer.load(out).vocab_size == 300
    for bad, message in (
        (words, "this is there already"),
        ([*words[:-1], str(tmp_path / "corpus.txt" / "x")], "cannot be written"),
        (["data", "tokenizer", "builtin:moon", *words[3:-1], str(tmp_path / "b")], "no built-in data 'moon'"),
        (
            ["data", "tokenizer", str(tmp_path / "none.txt"), *words[3:-1], str(tmp_path / "b")],
            "no such file",
        ),
    ):
        found = run.invoke(app, bad).exception
        assert isinstance(found, RequestError)
        assert message in str(found)


def test_the_speed_of_a_source_begins_with_itself(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with BuildLine() as line:
        line(BuildProgress("a.txt", 500, 900_000_000, 0.9))
        now[0] += 600
        line(BuildProgress("b.txt", 1, 100_000_000, 0.1))
        now[0] += 30
        line(BuildProgress("b.txt", 2, 400_000_000, 0.4))
    assert capsys.readouterr().err == (
        "tokenising b.txt: 1 documents, 100.0 MB\n"
        "tokenising b.txt: 2 documents, 400.0 MB, 10.0 MB/s, 40%, 1m 00s left\n"
    )


def test_the_line_tells_the_speed_of_this_run_alone(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with BuildLine() as line:
        now[0] += 1
        line(BuildProgress("a.txt", 500, 500_000_000, 0.5))  # what an earlier run had done
        now[0] += 10
        line(BuildProgress("a.txt", 600, 600_000_000, 0.6))
        now[0] += 1
        line(BuildProgress("a.txt", 601, 601_000_000, 0.61))  # too soon for a log
    assert capsys.readouterr().err == (
        "tokenising a.txt: 600 documents, 600.0 MB, 10.0 MB/s, 60%, 40s left\n"
    )
