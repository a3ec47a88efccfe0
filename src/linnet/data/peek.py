"""What the model sees, shown to a person."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from linnet.data.batches import IGNORE, TrainBatches, document_layout
from linnet.text import Tokenizer

_COLOURS = (36, 33, 35, 32, 34)


def describe(batches: TrainBatches, sample: int) -> dict[str, Any]:
    """A global sample's index, window, source, and the sha256 of its token ids (little-endian int64)."""
    windows = batches.windows
    window = int(batches.order(np.array([sample]))[0])
    tokens = windows.tokens(window)
    return {
        "sample": sample,
        "window": window,
        "source": windows.split.source_at(window * windows.length),
        "tokens": len(tokens),
        "sha256": hashlib.sha256(tokens.astype("<i8").tobytes()).hexdigest(),
    }


def show(batches: TrainBatches, tokenizer: Tokenizer, sample: int, limit: int, colour: bool = True) -> str:
    """A sample as text: one colour a document, a bar where a document begins, then tokens with targets."""
    facts = describe(batches, sample)
    batch = batches.windows.batch(np.array([facts["window"]]))
    tokens, targets = batch.tokens[0].numpy()[:limit], batch.targets[0].numpy()[:limit]
    documents, positions = document_layout(batch.tokens.numpy(), batches.windows.eos_id)
    pieces = []
    for token, document in zip(tokens, documents[0][:limit], strict=True):
        text = "⏎".join(tokenizer.decode([int(token)], skip_special=False).split("\n"))
        bar = "┃" if token == batches.windows.eos_id else ""
        pieces.append(f"{bar}\x1b[{_COLOURS[document % len(_COLOURS)]}m{text}\x1b[0m" if colour else bar + text)
    header = f"sample {sample} · window {facts['window']} · {facts['source']} · sha256 {facts['sha256'][:12]}"
    if batch.documents is None:
        header += " · documents see each other (document_mask is off)"
    rows = [
        f"{index:>5} {int(position):>5} {_piece(tokenizer, token):<18} → {_piece(tokenizer, target)}"
        for index, (token, target, position) in enumerate(zip(tokens, targets, positions[0], strict=False))
        if index < 12
    ]
    columns = f"{'index':>5} {'place':>5} {'input':<18}   target"
    return "\n".join([header, "".join(pieces), columns, *rows, ""])


def _piece(tokenizer: Tokenizer, token: int) -> str:
    return "(not counted)" if token == IGNORE else repr(tokenizer.decode([int(token)], skip_special=False))
