"""A dataset by its name, through a hub on loopback. In processes of their own, because the
libraries read their settings when they are imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub import Hub

PROGRAM = """
import json, sys
from linnet.config import LinnetError
from linnet.data.shards.build import build
from linnet.data.settings import DataSettings
from linnet.text import train_tokenizer

texts = json.load(open(sys.argv[1]))
for words in sys.argv[2:]:
    try:
        settings = DataSettings.model_validate(
            {"sources": json.loads(words), "sequence_length": 16, "preprocessing_processes": 1})
        tokenizer = train_tokenizer(texts, 300)
        told = []
        store = build(settings, tokenizer, told.append)
        tokens = store.train.read(0, store.train.tokens)
        print(json.dumps({"documents": store.train.documents + store.validation.documents,
                          "key": store.folder.name, "text": tokenizer.decode(tokens.tolist()),
                          "share": told[-1].share if told else None}))
    except LinnetError as error:
        print(json.dumps({"kind": type(error).__name__, "line": str(error)}))
"""


@pytest.fixture
def ask(tmp_path: Path, stories: list[str]):
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps(stories))

    def run(url: str, *sources: dict, **more: str) -> list[dict]:
        words = [json.dumps(source) for source in sources]
        offline = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_TOKEN")
        inherited = {name: value for name, value in os.environ.items() if name not in offline}
        settings = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1", **more}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(texts), *words],
            env=inherited | settings, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def as_lines(stories: list[str], field: str) -> bytes:
    return b"".join(json.dumps({field: text}).encode() + b"\n" for text in stories)


@pytest.mark.slow
def test_a_dataset_is_streamed_by_name_and_kept_by_commit(ask, stories: list[str]) -> None:
    pytest.importorskip("datasets")
    plain = {"dataset": "someone/stories"}
    with Hub("someone/stories", {"train-00000.jsonl": as_lines(stories[:200], "text"),
                                 "train-00001.jsonl": as_lines(stories[200:300], "text"),
                                 "test-00000.jsonl": as_lines(stories[300:350], "text")}) as hub:  # fmt: skip
        found, again, test, limited, wrong, split, missing = ask(
            hub.url, plain, plain, {**plain, "split": "test"}, {**plain, "documents": 30},
            {**plain, "text_field": "story"}, {**plain, "split": "nothing"}, {"dataset": "someone/else"},
        )  # fmt: skip
    assert found["documents"] == 300
    assert stories[0] in found["text"]
    assert again == {**found, "share": None}
    assert (test["documents"], limited["documents"], limited["share"]) == (50, 30, 1)
    assert len({found["key"], test["key"], limited["key"]}) == 3
    assert wrong["kind"] == "RequestError"
    assert "row 0: there is no field 'story'; its fields are text" in wrong["line"]
    assert split["kind"] == "RunError"
    assert "someone/stories: the dataset could not be read" in split["line"]
    assert missing["kind"] == "RequestError"
    assert "someone/else: the dataset cannot be reached" in missing["line"]
    with Hub("someone/stories", {"train-00000.jsonl": as_lines(stories[:90], "text")}, "2" * 40) as hub:
        (newer,) = ask(hub.url, plain)
    assert newer["documents"] == 90
    assert newer["key"] != found["key"]
    pinned, gone = ask(hub.url, {**plain, "revision": "1" * 40}, plain)
    assert pinned == again  # a commit is what it is: there is nothing to ask
    (offline,) = ask(hub.url, plain, HF_HUB_OFFLINE="1")
    for answer in (gone, offline):
        assert answer["kind"] == "RequestError"
        assert "someone/stories: the dataset cannot be reached" in answer["line"]
        assert "\n" not in answer["line"]
