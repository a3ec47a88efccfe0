"""The tokenizer of a model folder, checked against the model's embedding table.

Tokens get added to folders without the model being resized; a token whose id is not a row of the table ends
training in an index error, or in a device assert on a GPU.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer as LibraryTokenizer

from linnet.config import RequestError
from linnet.text.tokenizer import Tokenizer


def tokenizer_of(folder: Path, rows: int) -> Tokenizer:
    """The tokenizer of a model folder, all of whose ids are rows of the model's table.

    A padding token beyond the table is left out, which many base models have: what is padding is never
    learned, so another token fills a row as well.

    Args:
        rows: of the embedding table. More rows than tokens are allowed.

    Raises:
        RequestError: when another token is beyond the table, or as `Tokenizer.load`.
    """
    tokenizer = Tokenizer.load(folder)
    if tokenizer.pad_id is not None and tokenizer.pad_id >= rows:
        tokenizer = _without_padding(tokenizer)
    last = tokenizer.vocab_size - 1
    if last >= rows:
        raise RequestError(
            f"its tokenizer's last token {tokenizer.token(last)!r} has the id {last}, and the model's table has "
            f"{rows} rows", str(folder),
            "use the tokenizer that the model was trained with, or resize the model (resize_token_embeddings)",
        )  # fmt: skip
    return tokenizer


def _without_padding(tokenizer: Tokenizer) -> Tokenizer:
    spec = json.loads(tokenizer.to_json())
    gone = tokenizer.pad_id
    spec["added_tokens"] = [token for token in spec["added_tokens"] if token["id"] != gone]
    vocab = spec["model"].get("vocab")
    if isinstance(vocab, dict):
        spec["model"]["vocab"] = {token: number for token, number in vocab.items() if number != gone}
    elif isinstance(vocab, list) and gone == len(vocab) - 1:
        vocab.pop()
    return Tokenizer(
        LibraryTokenizer.from_str(json.dumps(spec)), tokenizer.name, tokenizer.eos_id, tokenizer.bos_id, None,
        tokenizer.sentencepiece_model, tokenizer.chat_template, tokenizer.stop_ids, tokenizer.start_id,
    )  # fmt: skip
