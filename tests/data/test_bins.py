from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stores import Built, build, documents_of

from linnet.config import RequestError
from linnet.data.opening import open_corpus
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


def written(path: Path, documents: list[list[int]], eot: int) -> np.ndarray:
    tokens = np.array([token for ids in documents for token in (*ids, eot)], "<u2")
    tokens.tofile(path)
    return tokens


def parts_of(store: Built) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    return documents_of(store.train, store.eos_id), documents_of(store.validation, store.eos_id)


def test_training_alone_holds_out_documents_by_what_they_hold(
    folder: Path, documents: list[list[int]], tokenizer: Tokenizer, settings_for: Make, cache: Path
) -> None:
    repeated = [*documents[:590], *documents[:300], *documents[590:], documents[595]]
    whole = written(folder / "train.bin", repeated, tokenizer.eos_id)
    store = build(settings_for(folder / "train.bin", validation_fraction=0.1), tokenizer)
    kept, held = parts_of(store)
    order = list(map(tuple, repeated))
    assert kept == [ids for ids in order if ids in set(kept)]  # in the file's order
    assert held == [ids for ids in order if ids in set(held)]
    assert not set(held) & set(kept)
    assert len(held) + len(kept) == len(order)
    assert 0.05 < store.validation.tokens / len(whole) < 0.15
    assert (store.train.documents, store.validation.documents) == (len(kept), len(held))
    assert not cache.exists()  # nothing is copied
    assert (folder / "train.bin").read_bytes() == whole.tobytes()
    assert (
        build(settings_for(folder / "train.bin", validation_fraction=0.1), tokenizer).fingerprint
        == store.fingerprint
    )
    other = build(settings_for(folder / "train.bin", validation_fraction=0.2), tokenizer)
    assert other.fingerprint != store.fingerprint
    assert set(held) < set(parts_of(other)[1])
    written(folder / "train.bin", [[5, 6, 7], *repeated[::-1]], tokenizer.eos_id)
    again = build(settings_for(folder / "train.bin", validation_fraction=0.1), tokenizer)
    assert set(held) <= set(parts_of(again)[1]) <= {*held, (5, 6, 7)}  # wherever they stand


@pytest.mark.parametrize("place", [0, 600])
@pytest.mark.parametrize("share", [0.01, 0.2])
def test_a_document_longer_than_the_held_out_part_stays_in_training(
    folder: Path,
    documents: list[list[int]],
    tokenizer: Tokenizer,
    settings_for: Make,
    place: int,
    share: float,
) -> None:
    for number in range(4):  # of one or another the hash would have it held out
        long = [7, number + 1] * 40_000
        whole = written(
            folder / "train.bin", [*documents[:place], long, *documents[place:]], tokenizer.eos_id
        )
        store = build(settings_for(folder / "train.bin", validation_fraction=share), tokenizer)
        assert 0 < store.validation.tokens / len(whole) < 1.5 * share
        assert tuple(long) in parts_of(store)[0]


def test_documents_of_validation_sources_are_left_out_of_training(
    folder: Path, documents: list[list[int]], tokenizer: Tokenizer, settings_for: Make, cache: Path
) -> None:
    written(folder / "a.bin", [*documents[:300], [], documents[310], documents[3]], tokenizer.eos_id)
    written(folder / "b.bin", [documents[310], *documents[300:]], tokenizer.eos_id)
    held = [documents[3], [], documents[310], documents[599]]
    given = written(folder / "val.bin", held, tokenizer.eos_id)[:-1]  # the last one is not ended
    given.tofile(folder / "val.bin")
    assert given[-1] != tokenizer.eos_id
    settings = settings_for(folder / "[ab].bin", validation_sources=str(folder / "val.bin"))
    store = build(settings, tokenizer)
    assert np.array_equal(store.validation.read(0, store.validation.tokens), given)
    gone = {tuple(ids) for ids in held if ids}
    expected = [*documents[:300], [], *documents[300:]]
    assert documents_of(store.train, store.eos_id) == [t for t in map(tuple, expected) if t not in gone]
    assert store.train.source_at(0) == str(folder / "a.bin")
    assert store.train.source_at(store.train.tokens - 1) == str(folder / "b.bin")
    assert not cache.exists()
    written(folder / "c.bin", documents[:3], tokenizer.eos_id)
    same = str(folder / "c.bin")
    refused(
        "all of its documents are held out",
        folder / "c.bin",
        tokenizer,
        settings_for,
        validation_sources=same,
    )


def test_equal_documents_of_two_sources_fall_on_the_same_side(
    folder: Path, documents: list[list[int]], tokenizer: Tokenizer, settings_for: Make
) -> None:
    written(folder / "a.bin", documents[:400], tokenizer.eos_id)
    written(folder / "b.bin", documents[200:], tokenizer.eos_id)
    domains = {name: {"weight": 50, "sources": [str(folder / f"{name}.bin")]} for name in "ab"}
    corpus = open_corpus(settings_for(domains=domains, validation_fraction=0.05), tokenizer)
    trained = [set(documents_of(c.split, corpus.eos_id)) for c in corpus.components if c.split]
    held = [set(documents_of(windows.split, corpus.eos_id)) for windows in corpus.validation.values()]
    assert len(held) == 2
    assert all(held)
    assert not (trained[0] | trained[1]) & (held[0] | held[1])


def test_windows_over_what_is_passed_over_are_those_of_the_documents_alone(
    folder: Path, documents: list[list[int]], tokenizer: Tokenizer, settings_for: Make
) -> None:
    written(folder / "train.bin", documents, tokenizer.eos_id)
    store = build(settings_for(folder / "train.bin", validation_fraction=0.3), tokenizer)
    assert len(store.train.shards) > 50
    tokens = np.concatenate([[*ids, store.eos_id] for ids in documents_of(store.train, store.eos_id)])
    starts = np.arange(0, len(tokens) - 64, 7)
    assert np.array_equal(store.train.rows(starts, 64), tokens[starts[:, None] + np.arange(64)])


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
    kept, held = parts_of(store)
    assert kept == [ids for ids in map(tuple, documents) if ids not in set(held)]
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
    refused("1 different documents are too few to hold some out", path, tokenizer, settings_for)
    np.array(documents[0], np.uint16).tofile(path)
    refused(
        "no end-of-text token .* parts it into documents.*set validation_sources",
        path,
        tokenizer,
        settings_for,
    )
    as_nanogpt_writes(path, documents, tokenizer.eos_id)
    refused("taken whole", [{"path": str(path), "documents": 3}], tokenizer, settings_for)
    (folder / "a.txt").write_text("text")
    refused("text cannot be mixed with token files", folder, tokenizer, settings_for)
    refused("text cannot be mixed", [str(path), "builtin:world"], tokenizer, settings_for)
    refused("text cannot be mixed", path, tokenizer, settings_for, validation_sources=str(folder / "a.txt"))


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
    assert store.train.tokens + store.validation.tokens == len(tokens)
    assert documents_of(store.train, store.eos_id)[0] == (*documents[0], 66_000)
    as_nanogpt_writes(folder / "train.bin", [[1, 2]], tokenizer.eos_id)
    refused("6 bytes are not whole uint32 tokens; a vocabulary of 70000 is read as uint32".replace("; ", ".*"),
            folder / "train.bin", tokenizer, settings_for)  # fmt: skip
