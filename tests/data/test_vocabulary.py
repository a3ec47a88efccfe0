from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from stores import build

from linnet.config import RequestError
from linnet.data import vocabulary
from linnet.data.settings import DataSettings
from linnet.data.vocabulary import tokenizer_for
from linnet.text import Tokenizer, TokenizerSettings, train_tokenizer

TRAINED = TokenizerSettings(name="trained", vocab_size=300)


def test_it_is_trained_once_and_found_again_by_content(
    mixed: list[str], settings_for: Callable[..., DataSettings], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tokenizer_for(TRAINED, settings_for(sources=mixed))
    assert first.vocab_size == 300
    assert [path.suffix for path in (cache / "tokenizers").iterdir() if path.suffix != ".lock"] == [""]
    smaller = tokenizer_for(TokenizerSettings(name="trained", vocab_size=290), settings_for(sources=mixed))
    assert smaller.vocab_size == 290
    monkeypatch.setattr(vocabulary, "train_tokenizer", None)
    again = tokenizer_for(TRAINED, settings_for(sources=mixed, sequence_length=64))
    assert again.fingerprint == first.fingerprint
    with Path(mixed[0]).open("a") as file:
        file.write("One more line.")
    with pytest.raises(TypeError):  # other text, another tokenizer: it would train
        tokenizer_for(TRAINED, settings_for(sources=mixed))


def test_held_out_documents_teach_it_nothing(
    mixed: list[str], settings_for: Callable[..., DataSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[str] = []

    def spy(documents, *given):  # type: ignore[no-untyped-def]
        taught.extend(documents)
        return train_tokenizer(taught, *given)

    monkeypatch.setattr(vocabulary, "train_tokenizer", spy)
    settings = settings_for(sources=mixed, validation_fraction=0.1)
    tokenizer = tokenizer_for(TRAINED, settings)
    store = build(settings, tokenizer)
    assert len(taught) == store.train.documents
    assert {s.facts["validation_fraction"] for s in store.stores} == {0.1}


def test_each_source_has_an_equal_part(
    mixed: list[str], settings_for: Callable[..., DataSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[str] = []
    monkeypatch.setattr(vocabulary, "train_tokenizer", lambda texts, _: taught.extend(texts) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tokenizer_for(TRAINED.model_copy(update={"train_megabytes": 0.02}), settings_for(sources=mixed))
    numbers = [int(text.split()[1][:-1]) for text in taught]
    assert 5_000 < sum(len(t) for t, n in zip(taught, numbers, strict=True) if n < 300) < 11_000
    assert 5_000 < sum(len(t) for t, n in zip(taught, numbers, strict=True) if n >= 350) < 11_000


def test_a_cache_that_cannot_be_written_is_told(
    mixed: list[str], settings_for: Callable[..., DataSettings], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RequestError, match="the cache cannot be written"):
        tokenizer_for(TRAINED, settings_for(sources=mixed, cache_dir=str(tmp_path / "file")))


def test_another_machine_may_have_kept_it_meanwhile(
    mixed: list[str], settings_for: Callable[..., DataSettings], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(vocabulary, "locked", nullcontext)  # as on a network file system without locks

    def meanwhile(texts, size):  # type: ignore[no-untyped-def]
        monkeypatch.setattr(vocabulary, "train_tokenizer", train_tokenizer)
        tokenizer_for(TRAINED, settings_for(sources=mixed))
        return train_tokenizer(texts, size)

    monkeypatch.setattr(vocabulary, "train_tokenizer", meanwhile)
    assert isinstance(tokenizer_for(TRAINED, settings_for(sources=mixed)), Tokenizer)
    assert [path.suffix for path in (cache / "tokenizers").iterdir() if path.suffix != ".lock"] == [""]


def test_token_files_cannot_teach_one(tmp_path: Path, settings_for: Callable[..., DataSettings]) -> None:
    (tmp_path / "train.bin").write_bytes(b"\0\0" * 100)
    with pytest.raises(RequestError, match=r"train\.bin: token files hold no text; .*a named tokenizer"):
        tokenizer_for(TRAINED, settings_for(tmp_path / "train.bin"))
