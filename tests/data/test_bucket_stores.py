"""A life by way of a bucket: text read from it, shards written to it, and read back as a source."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml
from buckets import Bucket, amazon, google

import tiny
from linnet.text import Tokenizer

pytestmark = pytest.mark.slow


@pytest.fixture(params=[google, amazon], ids=["gs", "s3"])
def bucket(request: pytest.FixtureRequest, stories: list[str]) -> Iterator[Bucket]:
    start: Callable[[], AbstractContextManager[Bucket]] = request.param
    with start() as found:
        for number in range(2):
            lines = "".join(json.dumps({"body": text}) + "\n" for text in stories[number::2])
            found.put(f"raw/{number}.jsonl.gz", gzip.compress(lines.encode()))
        yield found


@pytest.fixture
def recipe(bucket: Bucket, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """A tiny recipe whose text lies in the bucket."""
    tokenizer.save(tmp_path / "tokenizer")
    values = tiny.values(tmp_path)
    values["tokenizer"] = str(tmp_path / "tokenizer")
    values["model"]["vocab_size"] = tokenizer.vocab_size
    values["pretrain"]["duration"] = "4 steps"
    values["pretrain"]["data"] |= {
        "sources": [{"path": f"{bucket.url}/raw/", "text_field": "body", "label": "tales"}],
        "cache_dir": None,
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


PROGRAM = """
import contextlib, io, json, sys
import torch
from linnet.cli.main import main

torch.set_num_threads(1)
for words in map(json.loads, sys.argv[1:]):
    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["linnet", *words]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    print(json.dumps({"code": code, "out": out.getvalue(), "err": err.getvalue()}))
"""


def linnet(bucket: Bucket, cache: Path, *commands: list[object]) -> list[dict[str, Any]]:
    """The program, once for each command line, in a process with a cache of its own."""
    bucket.variables = {**bucket.variables, "LINNET_CACHE": str(cache)}
    words = (json.dumps([str(word) for word in command]) for command in commands)
    return [json.loads(line) for line in bucket.run(PROGRAM, *words).splitlines()]


def answer(said: dict[str, Any]) -> Any:
    assert said["code"] == 0, said["err"]
    return json.loads(said["out"])


def test_shards_go_to_a_bucket_and_come_back(bucket: Bucket, recipe: Path, tmp_path: Path) -> None:
    here, elsewhere, out = tmp_path / "here", tmp_path / "elsewhere", f"{bucket.url}/tokens"
    build = ["data", "build", recipe, "--json"]
    part, nowhere, *twice = linnet(
        bucket, here, [*build, "--part", "1/1"],
        [*build, "--out", out.replace("corpus", "nobodys"), "pretrain.data.retry_minutes=0"],
        [*build, "--out", out], [*build, "--out", out],
    )  # fmt: skip
    assert answer(part)["made"] == 1
    assert nowhere["code"] in (1, 2)
    assert nowhere["err"].count("\n") == 1
    assert out.replace("corpus", "nobodys") in nowhere["err"]
    assert "n0secret" not in nowhere["err"]
    built, again = map(answer, twice)
    (sent,) = built["sent"]
    assert sent["place"] == f"{out}/tales"
    assert sent["sent"] == sent["files"] == 5
    assert built["train_documents"] + built["validation_documents"] == 600
    assert again["sent"] == [{**sent, "sent": 0}]

    as_source = f"pretrain.data.sources=[{{path: '{out}/tales', label: tales}}]"
    fetched, run, other = linnet(
        bucket, elsewhere, [*build, as_source], ["train", recipe, as_source, "--run", tmp_path / "run"],
        [*build, as_source, "pretrain.data.validation_fraction=0.2"],
    )  # fmt: skip
    same = ("train_tokens", "train_documents", "validation_tokens", "validation_documents", "tokenizer")
    assert {name: answer(fetched)[name] for name in same} == {name: built[name] for name in same}
    assert not (elsewhere / "stores").exists()  # nothing was tokenised there
    assert shards(elsewhere / "fetched") == shards(here / "stores")
    assert run["code"] == 0, run["err"]
    assert len(tiny.losses(tmp_path / "run")) == 4
    assert other["code"] == 2
    assert "holds 0.1 of its documents out and the recipe 0.2" in other["err"]
    assert other["err"].count("\n") == 1


def shards(folder: Path) -> dict[str, bytes]:
    """Every file of the only store in a folder that its store.json tells of."""
    (store,) = (path.parent for path in folder.glob("*/store.json"))
    files = [*store.rglob("*.bin"), *store.rglob("*.starts"), store / "store.json"]
    assert len(files) == 5
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in files}
