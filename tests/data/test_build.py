from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stores import Built, build, documents_of, keys_of, small_pieces, texts_of

from linnet.config import RequestError
from linnet.data.settings import DataSettings
from linnet.data.shards import tokenising
from linnet.data.shards.progress import BuildProgress
from linnet.data.shards.store import token_dtype
from linnet.data.sources import documents, plain_text
from linnet.text import Tokenizer, train_tokenizer


def test_every_document_is_there_once_with_one_eos(
    stories: list[str],
    text_file: Callable[..., Path],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
) -> None:
    path = text_file([*stories, "It ends here.<|endoftext|>\n<|endoftext|>"])
    store = build(settings_for(path), tokenizer)
    found = texts_of(store.train, tokenizer) + texts_of(store.validation, tokenizer)
    assert sorted(found) == sorted([*stories, "It ends here."])
    assert store.train.documents + store.validation.documents == len(found)
    for split in (store.train, store.validation):
        tokens = split.read(0, split.tokens)
        assert (tokens == store.eos_id).sum() == split.documents
        assert not ((tokens[1:] == store.eos_id) & (tokens[:-1] == store.eos_id)).any()


def test_a_quoted_separator_in_a_row_is_text_and_not_an_end(
    tmp_path: Path, stories: list[str], tokenizer: Tokenizer, settings_for: Callable[..., DataSettings]
) -> None:
    quoting = [f"{story} GPT-2 ends with <|endoftext|> here." for story in stories]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in quoting))
    store = build(settings_for(path), tokenizer)
    assert store.train.documents + store.validation.documents == len(quoting)
    assert set(texts_of(store.train, tokenizer)) <= set(quoting)


def test_document_starts_lie_beside_each_shard(
    mixed: list[str],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_pieces(monkeypatch)
    store = build(settings_for(sources=mixed), tokenizer)
    assert len(store.train.shards) > 5
    for shard in (*store.train.shards, *store.validation.shards):
        starts = np.fromfile(shard.path.with_suffix(".starts"), "<u8")
        tokens = np.fromfile(shard.path, store.train.dtype)
        assert starts.tolist() == [0, *(np.flatnonzero(tokens == store.eos_id)[:-1] + 1).tolist()]


def test_validation_shares_no_document_with_training(
    mixed: list[str], tokenizer: Tokenizer, settings_for: Callable[..., DataSettings]
) -> None:
    one = build(settings_for(sources=mixed, validation_fraction=0.1), tokenizer)
    other = build(settings_for(sources=mixed[::-1], validation_fraction=0.1), tokenizer)
    assert one.fingerprint != other.fingerprint
    assert one.folders == other.folders[::-1]  # a source's store does not depend on its neighbours
    held = set(documents_of(one.validation, one.eos_id))
    assert len(held) < one.validation.documents  # a duplicate is among them
    assert not held & set(documents_of(one.train, one.eos_id))
    assert held == set(documents_of(other.validation, other.eos_id))
    assert 30 <= len(held) <= 90


def test_the_same_shards_from_one_process_and_from_three(
    mixed: list[str],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    small_pieces(monkeypatch)
    stores = [
        build(
            settings_for(sources=mixed, preprocessing_processes=n, cache_dir=str(tmp_path / str(n))),
            tokenizer,
        )
        for n in (1, 3)
    ]
    assert stores[0].bytes == stores[1].bytes
    assert len(stores[0].bytes) > 10
    assert not multiprocessing.active_children()


def test_what_changes_the_tokens_changes_the_store(
    prose: list[str],
    stories: list[str],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.jsonl"
    rows = [json.dumps({"text": text, "other": text}) for text in stories]
    path.write_text("\n".join(rows))
    first = keys_of(settings_for(path), tokenizer)
    copy = tmp_path / "elsewhere.jsonl"
    copy.write_text("\n".join(rows))
    assert keys_of(settings_for(copy, sequence_length=64, preprocessing_processes=2), tokenizer) == first
    other_kind = tmp_path / "a.txt"
    other_kind.write_text("\n".join(rows))
    keys = {
        first,
        keys_of(settings_for(path), train_tokenizer(prose[:30], 500)),
        keys_of(settings_for(path, validation_fraction=0.02), tokenizer),
        keys_of(settings_for(path, validation_sources=str(copy)), tokenizer),
        keys_of(settings_for(sources={"path": str(path), "text_field": "other"}), tokenizer),
        keys_of(settings_for(sources={"path": str(path), "documents": 10}), tokenizer),
        keys_of(settings_for(sources=[str(path), str(copy)]), tokenizer),
        keys_of(settings_for(other_kind), tokenizer),
        keys_of(settings_for(sources="builtin:world"), tokenizer),
        keys_of(settings_for(sources={"builtin": "world", "documents": 10}), tokenizer),
    }
    before = build(settings_for(path), tokenizer)
    path.write_text("\n".join([*rows[1:], rows[0]]))
    keys.add(keys_of(settings_for(path), tokenizer))
    assert len(keys) == 11
    assert build(settings_for(path), tokenizer).folder != before.folder


def test_a_finished_store_is_found_again_without_work(
    mixed: list[str],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = build(settings_for(sources=mixed), tokenizer)
    monkeypatch.setattr(tokenising, "tokenised", None)
    again = build(settings_for(sources=mixed), tokenizer)
    assert (again.folders, again.fingerprint) == (first.folders, first.fingerprint)


def test_a_small_corpus_holds_out_a_larger_share(
    stories: list[str],
    text_file: Callable[..., Path],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
) -> None:
    store = build(settings_for(text_file(stories[:20])), tokenizer)
    assert store.validation.documents >= 1
    assert store.train.documents + store.validation.documents == 20
    assert store.facts["validation_fraction"] > 0.01


def test_validation_sources_are_taken_whole_and_nothing_is_held_out(
    stories: list[str],
    text_file: Callable[..., Path],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
) -> None:
    train, validation = text_file(stories[:100], "train.txt"), text_file(stories[100:130], "validation.txt")
    store = build(settings_for(train, validation_sources=str(validation)), tokenizer)
    assert texts_of(store.train, tokenizer) == stories[:100]
    assert texts_of(store.validation, tokenizer) == stories[100:130]
    empty = text_file([], "empty.txt")
    with pytest.raises(RequestError, match=r"empty\.txt: there is no text in it"):
        build(settings_for(train, validation_sources=str(empty)), tokenizer)
    with pytest.raises(RequestError, match=r"empty\.txt: there is no text in it"):
        build(settings_for(empty, validation_sources=str(train)), tokenizer)


@pytest.mark.parametrize("validation", [(), "builtin:world"])
def test_the_world_is_validated_on_its_own_other_documents(
    validation: str,
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(documents, "DEFAULT_WORLD", 60)
    sources = {"builtin": "world", "documents": 80}
    store = build(settings_for(sources=sources, validation_sources=validation), tokenizer)
    assert (store.train.documents, store.validation.documents) == (80, 60 if validation else 8)
    assert not set(documents_of(store.train, store.eos_id)) & set(
        documents_of(store.validation, store.eos_id)
    )


def test_a_source_is_known_for_every_token(
    mixed: list[str], tokenizer: Tokenizer, settings_for: Callable[..., DataSettings]
) -> None:
    store = build(settings_for(sources=mixed), tokenizer)
    first = store.train.spans[0].tokens
    assert store.train.source_at(0) == store.train.source_at(first - 1) == mixed[0]
    assert store.train.source_at(first) == store.train.source_at(store.train.tokens - 1) == mixed[1]
    assert sum(span.tokens for span in store.train.spans) == store.train.tokens


def test_a_large_vocabulary_is_kept_in_four_bytes(
    mixed: list[str],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    narrow = build(settings_for(sources=mixed), tokenizer)
    assert (token_dtype(65_536), token_dtype(65_537)) == (np.dtype("<u2"), np.dtype("<u4"))
    monkeypatch.setattr(tokenizer, "vocab_size", 70_000)
    monkeypatch.setattr(tokenizer, "fingerprint", "another")
    monkeypatch.setattr(tokenizer, "encode_batch", _shifted(tokenizer.encode_batch))
    wide = build(settings_for(sources=mixed), tokenizer)
    assert wide.train.dtype == np.dtype("<u4")
    tokens = wide.train.read(0, wide.train.tokens)
    assert tokens.max() > 65_536
    eos = tokens == wide.eos_id
    assert np.array_equal(np.where(eos, tokens, tokens - 66_000), narrow.train.read(0, narrow.train.tokens))


def _shifted(encode: Callable) -> Callable:
    return lambda texts: [ids + np.uint32(66_000) for ids in encode(texts)]


@pytest.mark.parametrize("packed", [False, True])
def test_progress_tells_the_share_that_was_read(
    packed: bool,
    stories: list[str],
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    import gzip

    from linnet.data.sources import reading

    small_pieces(monkeypatch)
    monkeypatch.setattr(reading, "_BLOCK", 512)
    monkeypatch.setattr(plain_text, "_SEPARATOR_WITHIN", 2000)
    paths = [tmp_path / f"{name}.txt{'.gz' * packed}" for name in "ab"]
    for path, texts in zip(paths, (stories, stories[::-1]), strict=True):
        data = "\n<|endoftext|>\n".join(texts).encode()
        path.write_bytes(gzip.compress(data) if packed else data)
    told: list[BuildProgress] = []
    build(settings_for(sources=list(map(str, paths))), tokenizer, told.append)
    shares = [progress.share or 0 for progress in told]
    assert shares == sorted(shares)
    assert shares[0] < 0.1
    assert shares[-1] == 1
    done = told[-1].text_bytes
    assert all(abs(p.share - p.text_bytes / done) < 0.1 for p in told if p.share)
    assert told[-1].documents == len(stories)


def test_progress_of_limited_sources_counts_documents_and_is_silent_where_it_cannot_tell(
    tokenizer: Tokenizer,
    settings_for: Callable[..., DataSettings],
    mixed: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_pieces(monkeypatch)
    told: list[BuildProgress] = []
    build(settings_for(sources={"builtin": "world", "documents": 100}), tokenizer, told.append)
    assert 0 < (told[0].share or 0) < 0.2
    assert told[-1].share == 1
    told.clear()
    build(settings_for(sources=[*mixed, {"builtin": "world", "documents": 20}]), tokenizer, told.append)
    assert {progress.share for progress in told} == {None}


def test_what_a_store_tells_is_what_is_in_it(
    mixed: list[str], tokenizer: Tokenizer, settings_for: Callable[..., DataSettings]
) -> None:
    store: Built = build(settings_for(sources=mixed), tokenizer)
    assert {s.facts["tokenizer"]["fingerprint"] for s in store.stores} == {tokenizer.fingerprint}
    assert {s.vocab_size for s in store.stores} == {tokenizer.vocab_size}
    total = sum(
        len(text.encode())
        for source in settings_for(sources=mixed).sources
        for text in documents.texts(source)
    )
    assert sum(s.facts["text_bytes"] for s in store.stores) == total
