"""The tokenizer of a run: loaded by name, or trained on the run's own text and kept by content."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from linnet.data.settings import DataSettings
from linnet.data.shards.keys import cache_folder, fingerprint, key_of, unwritable
from linnet.data.shards.locking import locked
from linnet.data.shards.ready import refuse_training
from linnet.data.shards.tokenising import HeldOut
from linnet.data.sources.documents import documents
from linnet.text import Tokenizer, TokenizerSettings, load_tokenizer, train_tokenizer
from linnet.text.settings import TRAINED

_FORMAT = 1


def tokenizer_for(settings: TokenizerSettings, data: DataSettings) -> Tokenizer:
    """The tokenizer that a recipe asks for, for fresh weights: EOS begins a text where its own rule adds nothing.

    Raises:
        RequestError: when it cannot be found, or there is too little text to train one.
    """
    if settings.name != TRAINED:
        return load_tokenizer(settings.name, "tokenizer.name", settings.revision).opened_by_eos()
    refuse_training(data)
    folder = cache_folder(data) / "tokenizers" / _key(settings, data)
    if not (folder / "tokenizer.json").exists():
        with locked(folder):  # others that need it wait, rather than train the same
            if not (folder / "tokenizer.json").exists():
                assert settings.vocab_size is not None
                _keep(train_tokenizer(_training_text(settings, data), settings.vocab_size), folder)
    return Tokenizer.load(folder).opened_by_eos()


def _keep(tokenizer: Tokenizer, folder: Path) -> None:
    """Save a tokenizer whole or not at all; another process may be doing the same."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", suffix=".partial", dir=folder.parent))
        try:
            tokenizer.save(aside)
            aside.chmod(0o755)  # a temporary folder is for its owner alone
            aside.replace(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        if not (folder / "tokenizer.json").exists():
            raise unwritable(folder.parent, error) from None


def _key(settings: TokenizerSettings, data: DataSettings) -> str:
    return key_of(
        format=_FORMAT,
        sources=[fingerprint(source) for source in data.all_sources],
        cleaning=data.cleaning.model_dump(),
        fraction=None if data.validation_sources else data.validation_fraction,
        vocab_size=settings.vocab_size,
        train_megabytes=settings.train_megabytes,
    )


def _training_text(settings: TokenizerSettings, data: DataSettings) -> Iterator[str]:
    """Training documents, held-out ones left out; each source may fill an equal part of `train_megabytes`."""
    held_out = HeldOut(0.0 if data.validation_sources else data.validation_fraction)
    for source in data.all_sources:
        left = settings.train_megabytes * 1e6 / len(data.all_sources)
        for document in documents(source, cleaning=data.cleaning):
            raw = document.text.encode()
            if source.builtin or raw not in held_out:
                left -= len(raw)
                yield document.text
            if left <= 0:
                break
