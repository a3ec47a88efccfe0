from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stores import build, documents_of

from linnet.config import RequestError
from linnet.data.settings import DataSettings
from linnet.text import Tokenizer


def as_nanogpt_writes(path: Path, documents: list[list[int]], eot: int) -> np.ndarray:
    """A memmap of uint16 filled in parts, as nanoGPT's data/openwebtext/prepare.py does."""
    rows = [{"ids": [*ids, eot], "len": len(ids) + 1} for ids in documents]
    arr_len = np.sum([row["len"] for row in rows], dtype=np.uint64)
    arr = np.memmap(path, dtype=np.uint16, mode="w+", shape=(int(arr_len),))
    idx = 0
    for batch in np.array_split(np.arange(len(rows)), 7):
        if len(batch):
            arr_batch = np.concatenate([rows[i]["ids"] for i in batch])
            arr[idx : idx + len(arr_batch)] = arr_batch
            idx += len(arr_batch)
    arr.flush()
    return np.array(arr)


@pytest.fixture
def documents(stories: list[str], tokenizer: Tokenizer) -> list[list[int]]:
    return [tokenizer.encode(text) for text in stories]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "openwebtext"
    path.mkdir()
    return path


Make = Callable[..., DataSettings]


def test_train_and_validation_open_as_they_are(
    folder: Path, documents: list[list[int]], tokenizer: Tokenizer, settings_for: Make, cache: Path
) -> None:
    train = as_nanogpt_writes(folder / "train.bin", documents[:500], tokenizer.eos_id)
    validation = as_nanogpt_writes(folder / "val.bin", documents[500:], tokenizer.eos_id)
    settings = settings_for(folder / "train.bin", validation_sources=str(folder / "val.bin"))
    store = build(settings, tokenizer)
    assert np.array_equal(store.train.read(0, store.train.tokens), train)
    assert np.array_equal(store.validation.read(0, store.validation.tokens), validation)
    assert (store.train.documents, store.validation.documents) == (500, 100)
    assert store.train.source_at(17) == str(folder / "train.bin")
    assert not cache.exists()  # opened where they lie, nothing copied
    assert build(settings, tokenizer).fingerprint == store.fingerprint
    as_nanogpt_writes(folder / "val.bin", documents[499:], tokenizer.eos_id)
    assert build(settings, tokenizer).fingerprint != store.fingerprint


def test_training_alone_holds_out_documents_that_it_does_not_have(
    folder: Path, documents: list[list[int]], tokenizer: Tokenizer, settings_for: Make
) -> None:
    repeated = [*documents[:590], *documents[:5], *documents[590:], documents[595]]
    whole = as_nanogpt_writes(folder / "train.bin", repeated, tokenizer.eos_id)
    store = build(settings_for(folder / "train.bin", validation_fraction=0.02), tokenizer)
    held, kept = documents_of(store.validation, store.eos_id), documents_of(store.train, store.eos_id)
    assert held
    assert not set(held) & set(kept)
    assert len(set(held)) == len(held)
    assert set(held) | set(kept) == set(map(tuple, documents))
    assert np.array_equal(store.train.read(0, store.train.tokens), whole[: store.train.tokens])
    assert (folder / "train.bin").read_bytes() == whole.tobytes()
    again = build(settings_for(folder / "train.bin", validation_fraction=0.02), tokenizer)
    assert again.fingerprint == store.fingerprint
    other = build(settings_for(folder / "train.bin", validation_fraction=0.2), tokenizer)
    assert other.fingerprint != store.fingerprint
    assert 0.1 < other.validation.tokens / len(whole) < 0.3


def test_documents_are_found_wherever_looking_is_cut(
    folder: Path,
    documents: list[list[int]],
    tokenizer: Tokenizer,
    settings_for: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    as_nanogpt_writes(folder / "train.bin", documents, tokenizer.eos_id)
    expected = build(settings_for(folder / "train.bin"), tokenizer)
    monkeypatch.setattr("linnet.data.shards.bins._CHUNK", 97)
    found = build(settings_for(folder / "train.bin"), tokenizer)
    assert (found.fingerprint, found.train.documents) == (expected.fingerprint, expected.train.documents)


def test_several_files_are_one_split(
    folder: Path, documents: list[list[int]], tokenizer: Tokenizer, settings_for: Make
) -> None:
    for index, part in enumerate((documents[:200], documents[200:400], documents[400:])):
        as_nanogpt_writes(folder / f"train_{index}.bin", part, tokenizer.eos_id)
    store = build(settings_for(folder / "train_*.bin"), tokenizer)
    assert documents_of(store.train, store.eos_id) == [
        tuple(ids) for ids in documents[: store.train.documents]
    ]
    assert store.train.documents + store.validation.documents == 600


def refused(message: str, path: Path | list[str], tokenizer: Tokenizer, make: Make, **given: object) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        build(make(sources=path if isinstance(path, list) else str(path), **given), tokenizer)
    assert "\n" not in caught.value.line()


def test_what_is_no_token_file_of_this_tokenizer_is_refused(
    folder: Path,
    documents: list[list[int]],
    tokenizer: Tokenizer,
    settings_for: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = folder / "train.bin"
    path.write_bytes(b"")
    refused("0 bytes are not whole uint16 tokens", path, tokenizer, settings_for)
    as_nanogpt_writes(path, documents, tokenizer.eos_id)
    path.write_bytes(path.read_bytes() + b"x")
    refused("bytes are not whole uint16 tokens", path, tokenizer, settings_for)
    as_nanogpt_writes(path, [*documents, [tokenizer.vocab_size]], tokenizer.eos_id)
    refused(f"token {tokenizer.vocab_size} is outside the vocabulary", path, tokenizer, settings_for)
    as_nanogpt_writes(path, documents[:1], tokenizer.eos_id)
    refused("too few documents to hold some out", path, tokenizer, settings_for)
    as_nanogpt_writes(path, documents[:1] * 9, tokenizer.eos_id)
    refused("every held-out document also stands in training", path, tokenizer, settings_for)
    as_nanogpt_writes(path, documents, tokenizer.eos_id)
    refused("taken whole", [{"path": str(path), "documents": 3}], tokenizer, settings_for)
    (folder / "a.txt").write_text("text")
    refused("text cannot be mixed with token files", folder, tokenizer, settings_for)
    refused("text cannot be mixed", [str(path), "builtin:world"], tokenizer, settings_for)
    refused("text cannot be mixed", path, tokenizer, settings_for, validation_sources=str(folder / "a.txt"))
    (folder / "file").write_text("in the way")
    refused("cache cannot be written", path, tokenizer, settings_for, cache_dir=str(folder / "file"))


def test_a_large_vocabulary_is_read_as_four_bytes(
    folder: Path,
    documents: list[list[int]],
    tokenizer: Tokenizer,
    settings_for: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokenizer, "vocab_size", 70_000)
    tokens = np.array([token for ids in documents for token in (*ids, 66_000, tokenizer.eos_id)], "<u4")
    tokens.tofile(folder / "train.bin")
    store = build(settings_for(folder / "train.bin"), tokenizer)
    assert np.array_equal(store.train.read(0, store.train.tokens), tokens[: store.train.tokens])
    as_nanogpt_writes(folder / "train.bin", [[1, 2]], tokenizer.eos_id)
    refused("6 bytes are not whole uint32 tokens; a vocabulary of 70000 is read as uint32".replace("; ", ".*"),
            folder / "train.bin", tokenizer, settings_for)  # fmt: skip
