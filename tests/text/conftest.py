"""Vocabularies made here, so that no test needs a network or a file from elsewhere."""

from __future__ import annotations

import json
import random
from importlib.util import find_spec
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from linnet.text import Tokenizer, train_tokenizer
from linnet.text.bytelevel import BYTE_CHARACTERS


@pytest.fixture(scope="session")
def documents() -> list[str]:
    """English prose that every Python has."""
    return [text for _, text in sorted(topics.items())]


@pytest.fixture(scope="session")
def trained(documents: list[str]) -> Tokenizer:
    return train_tokenizer(documents, 2000)


@pytest.fixture(scope="session")
def gpt2_like(tmp_path_factory: pytest.TempPathFactory, documents: list[str]) -> Path:
    """A folder with `encoder.json` and `vocab.bpe` as GPT-2's: bytes, merges in order, end of text last."""
    from tokenizers import Tokenizer as Library
    from tokenizers import models, pre_tokenizers, trainers

    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator(documents, trainer=trainer)
    merges = json.loads(library.to_str())["model"]["merges"]
    tokens = [*BYTE_CHARACTERS, *dict.fromkeys(a + b for a, b in merges), "<|endoftext|>"]
    folder = tmp_path_factory.mktemp("gpt2-like")
    (folder / "encoder.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "vocab.bpe").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def mistral_files() -> dict[str, Path]:
    """The SentencePiece models that the development dependency mistral-common carries."""
    spec = find_spec("mistral_common")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("mistral-common is not installed")
    data = Path(spec.submodule_search_locations[0]) / "data"
    return {"v1": data / "tokenizer.model.v1", "v3": next(data.glob("*.model.v3"))}


@pytest.fixture(scope="session")
def varied_strings() -> list[str]:
    """2,400 strings of what tokenizers stumble over, the same on every run."""
    rng = random.Random(20260101)
    characters = list(
        "abcdefghij ABC   \n\t.,!?'0123456789<>_▁[]éüñçßЖд中文字日本한국😀👍🏽\u200d\u0301\xa0\u3000\x00\x1c"
    )
    words = ["the", "Once", "upon", "girl", "don't", "[INST]", "<s>", "</s>", "<0x0A>", "return", "x=1"]
    words += [
        "  ",
        "\n",
        "\n\n",
        "    ",
        " " * 16,
        " " * 31,
        "naïve",
        "中文",
        "👍🏽",
        "[REFERENCE_DOC_3]",
        "\t",
    ]
    planes = ((0x20, 0x300), (0x300, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x1FFFF))
    strings = ["", " ", "  ", "\n", " a", "a ", "\ta\n"]
    for _ in range(800):
        strings.append("".join(rng.choices(characters, k=rng.randrange(40))))
        strings.append(rng.choice(["", " "]).join(rng.choices(words, k=rng.randrange(20))))
        strings.append("".join(chr(rng.randrange(*rng.choice(planes))) for _ in range(rng.randrange(20))))
    return strings
