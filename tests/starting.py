"""Folders to begin with: an untrained model of the tiny shape, beside a tokenizer that fits it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from tokenizers import Tokenizer as LibraryTokenizer

import tiny
from linnet.model import Transformer, initialize, save_model
from linnet.text import Tokenizer, train_tokenizer

ROWS = 320


def texts(letters: str = "") -> list[str]:
    """Documents of the creatures' language, or of words of the given letters."""
    draw = random.Random(3)
    if not letters:
        return [tiny.document(draw) for _ in range(300)]
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(4000)]
    return [" ".join(words[at : at + 20]) for at in range(0, len(words), 20)]


def tokenizer(letters: str = "") -> Tokenizer:
    """Of such documents; ROWS tokens either way."""
    return train_tokenizer(texts(letters), ROWS)


def model_folder(folder: Path, rows: int = ROWS, seed: int = 3, **shape: Any) -> Path:
    """A stock model of the tiny recipe's shape and its tokenizer."""
    folder.mkdir(parents=True)
    network = Transformer(tiny.spec(vocab_size=rows, max_position_embeddings=128, **shape))
    initialize(network, seed)
    own = tokenizer()
    save_model(network, folder, eos_id=own.eos_id)
    own.save(folder)
    return folder


def add_tokens(folder: Path, *names: str, special: bool = True, pad: str | None = None) -> None:
    """More tokens than the folder's model has rows, as somebody adds them who forgets to resize it."""
    file = folder / "tokenizer.json"
    library = LibraryTokenizer.from_file(str(file))
    add = library.add_special_tokens if special else library.add_tokens
    add([AddedToken(name, special=special) for name in names])
    library.save(str(file))
    if pad:
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            config = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps(config | {"pad_token": pad}))


def other_weights(folder: Path) -> None:
    """The same folder with weights that somebody trained on."""
    file = folder / "model.safetensors"
    state = load_file(file)
    draw = torch.Generator().manual_seed(1)
    changed = {name: value + 0.1 * torch.randn(value.shape, generator=draw) for name, value in state.items()}
    save_file(changed, file, metadata={"format": "pt"})
