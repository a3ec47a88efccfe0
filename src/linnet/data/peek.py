"""What the model sees, shown to a person or told to a program."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

import numpy as np

from linnet.data.batches import IGNORE, collate, document_layout
from linnet.data.training import TrainBatches
from linnet.text import Tokenizer

_COLOURS = (36, 33, 35, 32, 34)
DIM, _BOLD = 2, 1
_AROUND = 2  # rows of the table on each side of a border


def describe(batches: TrainBatches, sample: int) -> dict[str, Any]:
    """Where a global sample lies, and the sha256 of its token ids (little-endian int64).

    The ids are the first input and then the targets, so a whole sequence of T has T + 1.
    """
    place, (tokens,) = batches.place(sample), batches.tokens(np.array([sample]))
    return {
        "sample": sample,
        **asdict(place),
        "tokens": len(tokens),
        "sha256": hashlib.sha256(tokens.astype("<i8").tobytes()).hexdigest(),
    }


def show(batches: TrainBatches, tokenizer: Tokenizer, sample: int, limit: int, colour: bool) -> str:
    """The first `limit` places of a sample: its documents as text, then inputs beside their targets.

    Each document has a colour and a title where it begins; each source a colour in the sample's title.
    Places whose target is not counted in the loss are dimmed and said to be so.
    """
    facts, (ids,) = describe(batches, sample), batches.tokens(np.array([sample]))
    batch = collate([ids], batches.length, batches.eos_id, batches.document_mask, batches.bos_id)
    documents, positions = document_layout(batch.tokens.numpy(), batches.eos_id, batches.bos_id)
    inputs, targets = batch.tokens[0].numpy()[:limit], batch.targets[0].numpy()[:limit]
    documents, positions = documents[0][:limit], positions[0][:limit]
    counted = targets != IGNORE
    paint = paint_text if colour else lambda text, _: text
    titles = [source.title for source in batches.sources]
    of = _COLOURS[titles.index(facts["source"]) % len(_COLOURS)] if facts["source"] in titles else _COLOURS[0]
    shard = "" if facts["shard"] is None else f" of shard {facts['shard']:,}"
    where = f"window {facts['window']:,} of {facts['of']:,}{shard}, pass {facts['epoch'] + 1}"
    apart = "documents are masked from each other" if batches.document_mask else "documents see each other"
    lines = [
        f"{paint(f'sample {sample}', _BOLD)} from {paint(facts['source'], of)}: {where}",
        f"{batch.counted} of {batches.length} targets are counted; {apart}; sha256 {facts['sha256'][:16]}",
    ]
    borders = [0, *(np.flatnonzero(np.diff(np.where(counted, documents, -1))) + 1).tolist()]
    for begin, end in zip(borders, [*borders[1:], len(inputs)], strict=True):
        if not counted[begin]:
            lines.append(paint(f"── {end - begin} places that are not counted ──", DIM))
            continue
        opens = positions[begin] == 0 and inputs[begin] in (batches.eos_id, batches.bos_id)
        lines.append(
            paint("── a document begins ──" if opens else "── goes on from the window before ──", DIM)
        )
        text = tokenizer.decode(inputs[begin:end].tolist(), skip_special=False)
        colour_of = _COLOURS[int(documents[begin]) % len(_COLOURS)]
        lines += [paint(printable(line), colour_of) for line in text.split("\n")]
    if limit < batches.length:
        lines.append(paint(f"── {batches.length - limit} more places (--tokens) ──", DIM))
    lines += ["", paint(f"{'place':>6} {'position':>8}  {'input':<20}    target", DIM)]
    near = sorted({place for border in borders for place in range(border - _AROUND, border + _AROUND + 1)})
    for before, place in zip([0, *near], near, strict=False):
        if not 0 <= place < len(inputs):
            continue
        if place > before + 1:
            lines.append(paint(f"{'⋮':>6}", DIM))
        row = f"{place:>6} {positions[place]:>8}  {_piece(tokenizer, inputs[place]):<20} →  "
        row += _piece(tokenizer, targets[place]) if counted[place] else "(not counted)"
        lines.append(paint(row, _COLOURS[int(documents[place]) % len(_COLOURS)] if counted[place] else DIM))
    return "\n".join([*lines, ""])


def paint_text(text: str, code: int) -> str:
    """Text in a terminal's colour or style of that number."""
    return f"\x1b[{code}m{text}\x1b[0m"


def printable(text: str) -> str:
    """Text without the characters that steer a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in text)


def _piece(tokenizer: Tokenizer, token: int) -> str:
    return repr(tokenizer.decode([int(token)], skip_special=False))
