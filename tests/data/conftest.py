"""A small tokenizer and small corpora, so that no test needs a network or a file from elsewhere."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest

from linnet.data.settings import DataSettings
from linnet.text import Tokenizer, train_tokenizer


@pytest.fixture(scope="session")
def prose() -> list[str]:
    """English that every Python has."""
    return [text for _, text in sorted(topics.items())]


@pytest.fixture(scope="session")
def tokenizer(prose: list[str]) -> Tokenizer:
    return train_tokenizer(prose[:40], 600)


@pytest.fixture(scope="session")
def stories() -> list[str]:
    """600 documents of 3 to 60 words, all different."""
    draw = random.Random(7)
    words = "the a fox bird river stone sings runs sees finds small old blue bright and then under over"
    return [
        f"Story {i}: " + " ".join(draw.choices(words.split(), k=draw.randint(3, 60))) + "."
        for i in range(600)
    ]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("LINNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def settings_for():
    """Data settings for a path, or for sources given by name."""

    def make(path: Path | str | None = None, **given: Any) -> DataSettings:
        if path is not None:
            given["sources"] = str(path)
        defaults = {"sequence_length": 32, "preprocessing_processes": 1}
        return DataSettings.model_validate({**defaults, **given})

    return make


@pytest.fixture
def text_file(tmp_path: Path):
    """Writes documents as a text file with separators."""

    def write(documents: list[str], name: str = "corpus.txt") -> Path:
        path = tmp_path / name
        path.write_text("\n<|endoftext|>\n".join(documents), encoding="utf-8")
        return path

    return write


@pytest.fixture
def mixed(stories: list[str], text_file: Callable[..., Path], tmp_path: Path) -> list[str]:
    """Two sources with duplicates in and between them."""
    text_file(stories[:400] + stories[:50], "a.txt")
    lines = (json.dumps({"text": text}) + "\n" for text in stories[350:] + stories[590:])
    (tmp_path / "b.jsonl").write_text("".join(lines))
    return [str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl")]
