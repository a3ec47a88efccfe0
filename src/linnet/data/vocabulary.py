"""The tokenizer of a run: loaded by name, or trained on the run's own text and kept by content."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from linnet.config import RequestError
from linnet.data.build import DEFAULT_WORLD, cache_folder, fingerprint, is_held_out
from linnet.data.documents import texts
from linnet.data.settings import DataSettings
from linnet.text import Tokenizer, TokenizerSettings, load_tokenizer, train_tokenizer
from linnet.text.settings import TRAINED

_FORMAT = 1


def tokenizer_for(settings: TokenizerSettings, data: DataSettings) -> Tokenizer:
    """The tokenizer that a recipe asks for.

    Raises:
        RequestError: when it cannot be found, or there is too little text to train one.
    """
    if settings.name != TRAINED:
        return load_tokenizer(settings.name, "tokenizer.name", settings.revision)
    folder = cache_folder(data) / "tokenizers" / _key(settings, data)
    if not (folder / "tokenizer.json").exists():
        assert settings.vocab_size is not None
        trained = train_tokenizer(_training_text(settings, data), settings.vocab_size)
        _keep(trained, folder)
    return Tokenizer.load(folder)


def _keep(tokenizer: Tokenizer, folder: Path) -> None:
    aside = folder.with_name(f"{folder.name}.partial")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        tokenizer.save(aside)
        if not folder.exists():
            aside.replace(folder)
    except OSError as error:
        raise RequestError(f"the cache cannot be written ({error.strerror})", str(folder.parent),
                           "set data.cache_dir or LINNET_CACHE to a folder that can") from None  # fmt: skip


def _key(settings: TokenizerSettings, data: DataSettings) -> str:
    facts = {
        "format": _FORMAT,
        "sources": [fingerprint(source) for source in data.sources],
        "fraction": None if data.validation_sources else data.validation_fraction,
        "vocab_size": settings.vocab_size,
        "train_megabytes": settings.train_megabytes,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]


def _training_text(settings: TokenizerSettings, data: DataSettings) -> Iterator[str]:
    """Training documents, held-out ones left out, up to `train_megabytes` of each source's share."""
    share = 0.0 if data.validation_sources else data.validation_fraction
    left = settings.train_megabytes * 1e6
    for source in data.sources:
        for count, text in enumerate(texts(source)):
            if left <= 0 or (source.builtin and source.documents is None and count >= DEFAULT_WORLD):
                break
            raw = text.encode("utf-8")
            if not is_held_out(raw, share):
                left -= len(raw)
                yield text
