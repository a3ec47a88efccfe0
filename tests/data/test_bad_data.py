"""Data that is not what it should be: one line, the right exit code, and nothing lost, read whole or streamed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import smol
import yaml
from formats import as_lines
from program import Process
from smol import Site

import tiny

pytest.importorskip("datasets")

STORIES = smol.texts(smol.FINEWEB)[:120]
BOTH = pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with smol.site(tmp_path_factory.mktemp("bad-data")) as made:
        yield made


Train = Callable[..., Process]


@pytest.fixture
def train(site: Site, tmp_path: Path) -> Train:
    """Begins `linnet train` with a data section, in the folder `run`."""

    def begin(*overrides: str, verb: tuple[str, ...] = ("train",), **data: Any) -> Process:
        values = tiny.values(tmp_path / "none")
        values["tokenizer"] = str(site.tokenizer)
        values["model"]["vocab_size"] = smol.VOCABULARY
        small = {"shard_tokens": 256, "retry_minutes": 0.02, "validation_documents": 6}
        values["pretrain"]["data"] |= {"sources": [], **small, **data}
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(values))
        where = ("--run", tmp_path / "run") if verb == ("train",) else ()
        return site.program.linnet(*verb, recipe, *where, *overrides)

    return begin


def whole(path: Path, content: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


HARMED = {
    "corrupt parquet": ("a.parquet", smol.parquet(STORIES)[:-200], {}, "this is not a whole parquet file"),
    "a page of a parquet": (
        "a.parquet", smol.parquet(STORIES).replace(b"the", b"\xff\xfe\xfd", 40), {}, "this is not a whole parquet file",
    ),
    "cut gz": ("a.jsonl.gz", gzip.compress(as_lines(STORIES))[:-500], {}, "the packed file is damaged"),
    "no UTF-8": ("a.jsonl", as_lines(STORIES) + b'{"text": "caf\xe9"}\n', {}, "a.jsonl:121: this is not UTF-8"),
    "no JSON": ("a.jsonl", as_lines(STORIES) + b"{text}\n", {}, "a.jsonl:121: this line is not JSON"),
    "no such field": ("a.jsonl", as_lines(STORIES, "content"), {}, "a.jsonl:1: there is no field 'text'"),
    "no such column": ("a.parquet", smol.parquet(STORIES), {"text_field": "body"}, "there is no column 'body'"),
    "null": ("a.jsonl", b'{"text": null}\n' * 9, {}, "none of its 9 rows is a document (9 without text)"),
    "no text": ("a.jsonl", b'{"text": 7}\n' * 9, {}, "the field 'text' is not text"),
    "all filtered": ("a.jsonl", as_lines(STORIES, score=1), {"filter": "score > 3"},
                     "none of its 120 rows is a document (120 filtered)"),
    "nothing": ("a.jsonl", b"\n", {}, "there is no text in it"),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("case", HARMED)
def test_a_file_that_is_not_what_it_claims_is_refused_before_anything_is_written(
    train: Train, tmp_path: Path, case: str, streaming: bool
) -> None:
    name, content, more, words = HARMED[case]
    path = whole(tmp_path / "data" / name, content)
    data = {"sources": [{"path": str(path), "streaming": streaming, **more}], "validation_documents": 500}
    trained, built = train(**data), train(verb=("data", "build"), **data)
    for process in (trained, built):
        line = process.refusal(2)
        assert words in line
        assert name in line
    assert not (tmp_path / "run").exists()


REQUESTS = {
    "same name": ({"sources": [{"path": "A"}, {"path": "A"}]}, "two sources are named 'A'; give one of them a label"),
    "weights": ({"sources": [{"path": "A", "weight": 60}, {"path": "B", "weight": 60}]}, "add up to 120"),
    "domains": ({"domains": {"a": {"weight": 60, "sources": ["A"]}, "b": {"weight": 50, "sources": ["B"]}}},
                "the weights of the domains (a 60, b 50) add up to 110"),
    "weights within": ({"domains": {"a": {"sources": [{"path": "A", "weight": 1}, {"path": "B", "weight": 3}]}}},
                       "the weights of its sources"),
    "schedule": ({"domains": {"a": {"weight": 60, "sources": ["A"]}, "b": {"weight": 40, "sources": ["B"]}},
                  "schedule": [{"start": 0.5, "weights": {"a": 50, "c": 50}}]},
                 "the phase at 0.5 must weigh exactly the domains a, b"),
    "unweighed": ({"sources": [{"path": "A"}, {"path": "B"}]}, "give each source of its domain a weight"),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("case", REQUESTS)
def test_proportions_that_cannot_be_are_refused(
    train: Train, tmp_path: Path, case: str, streaming: bool
) -> None:
    for name in "AB":
        whole(tmp_path / "data" / f"{name}.jsonl", as_lines(STORIES))
    data, words = REQUESTS[case]
    if case == "unweighed" and not streaming:
        pytest.skip("what is read whole has a known size")

    def real(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: real(inner) for key, inner in value.items()} | (
                {"streaming": True} if streaming and "path" in value else {}
            )
        if isinstance(value, list):
            return [real(inner) for inner in value]
        return str(tmp_path / "data" / f"{value}.jsonl") if value in ("A", "B") else value

    line = train(**real(data)).refusal(2)
    assert words.replace("'A'", f"'{tmp_path / 'data' / 'A.jsonl'}'") in line
    assert not (tmp_path / "run").exists()


def test_what_a_stream_cannot_have_is_refused(train: Train, tmp_path: Path) -> None:
    path = whole(tmp_path / "data" / "a.jsonl", as_lines(STORIES))
    source = {"path": str(path), "streaming": True}
    line = train(sources=[source], cache_gb=1e-6).refusal(2)
    assert "cache_gb 1e-06 is too little for two shards of every streamed source (1 of them)" in line
    line = train("pretrain.duration=2 epochs", sources=[source]).refusal(2)
    assert "a streamed source has no epochs to count; say it in steps or tokens" in line
    assert not (tmp_path / "run").exists()


@BOTH
def test_rows_without_text_are_passed_over(train: Train, tmp_path: Path, streaming: bool) -> None:
    content = as_lines(STORIES[:60]) + b'{"text": null}\n{"text": ""}\n' + as_lines(STORIES[60:])
    path = whole(tmp_path / "data" / "a.jsonl", content)
    train("pretrain.duration=3 steps", sources=[{"path": str(path), "streaming": streaming}]).ended()
    assert max(tiny.losses(tmp_path / "run")) == 3


@pytest.mark.parametrize("suffix", ["parquet", pytest.param("jsonl.gz", marks=pytest.mark.slow)])
def test_a_file_that_is_corrupt_in_the_middle_of_a_stream_ends_a_saved_run(
    train: Train, tmp_path: Path, suffix: str
) -> None:
    def packed(part: int) -> bytes:
        some = smol.texts(smol.DCLM)[5 * part : 5 * part + 5]
        return smol.parquet(some) if suffix == "parquet" else gzip.compress(as_lines(some))

    files = [whole(tmp_path / "data" / f"{part}.{suffix}", packed(part)) for part in range(5)]
    held = whole(tmp_path / "held.jsonl", as_lines(STORIES[:9]))
    data = {
        "sources": [{"path": str(files[0].parent), "streaming": True}],
        "validation_sources": [{"path": str(held)}],
    }
    train(**data).ended()
    run = tmp_path / "run"
    run.rename(tmp_path / "whole")
    order = [
        json.loads(path.read_text())["start"]["file"]
        for path in sorted(tmp_path.glob("cache/streams/*/0*.json"))
    ]
    assert max(order) >= 2
    third = files[smol.order_of(len(files), tiny.values(tmp_path)["seed"])[2]]
    third.write_bytes(packed(int(third.name[0]))[:-100])

    line = train(**data).refusal(1)
    step = max(tiny.losses(run))
    assert step > 0
    assert third.name in line
    assert f"step {step} is saved, and the same command goes on from it" in line
    assert (tiny.checkpoints(run) / f"step-{step:08d}" / "manifest.json").exists()
    third.write_bytes(packed(int(third.name[0])))
    train(**data).ended()
    tiny.assert_same_run(tmp_path / "whole", run, 30)


@pytest.mark.slow
def test_a_corrupt_file_on_a_hub_is_told_after_some_tries(site: Site, tmp_path: Path) -> None:
    broken = smol.datasets()
    name = smol.file_at(1)
    broken[smol.FINEWEB][name] = broken[smol.FINEWEB][name][:-300]
    with site.hub.moved("4" * 40, broken):
        held = whole(tmp_path / "held.jsonl", as_lines(STORIES[:9]))
        more = f'pretrain.data.validation_sources=[{{"path": "{held}"}}]'
        line = site.train(tmp_path / "run", tmp_path / "cache", more, retry_minutes=0.1).refusal(1)
    assert f"{name}: this is not a whole parquet file" in line
    assert max(tiny.losses(tmp_path / "run")) > 0


@pytest.mark.slow
@BOTH
def test_a_line_of_200_megabytes_is_read(train: Train, tmp_path: Path, streaming: bool) -> None:
    word = json.dumps(" ".join(STORIES))[1:-1]
    long = b'{"text": "' + word.encode() * (200_000_000 // len(word) + 1) + b'"}\n'
    path = whole(tmp_path / "data" / "a.jsonl", as_lines(STORIES) + long)
    held = whole(tmp_path / "held.jsonl", as_lines(STORIES[:9]))
    source = {"path": str(path), "streaming": streaming}
    data = {"sources": [source], "validation_sources": [{"path": str(held)}], "shard_tokens": 1 << 20}
    train("pretrain.duration=4 steps", **data).ended(seconds=600)
    assert max(tiny.losses(tmp_path / "run")) == 4
