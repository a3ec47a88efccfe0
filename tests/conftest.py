"""A tiny corpus and a cache that the tests of whole runs share; made once."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text file of a small regular language; stores and tokenizers made of it lie beside it."""
    folder = tmp_path_factory.mktemp("corpus")
    return tiny.write_corpus(folder / "corpus.txt")
