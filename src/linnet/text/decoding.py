"""From ids back to text: whole sequences, and one id at a time while a model is generating.

A token is a string of bytes, and a character may be spread over several tokens. Showing text as it is
generated therefore means holding bytes back until they form characters; joined, the pieces shown must
equal the text decoded at once, or a transcript depends on how it was watched.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tokenizers import Tokenizer as LibraryTokenizer

from linnet.text.bytelevel import token_to_bytes

SPACE_MARK = "▁"
"""How SentencePiece writes a space (U+2581)."""


class StreamDecoder(Protocol):
    """Text from ids that come one at a time."""

    def feed(self, token_id: int) -> str:
        """The text that became complete with this id; often empty in the middle of a character."""

    def finish(self) -> str:
        """What was held back, with U+FFFD for bytes that never became a character."""


class ByteStream:
    """Holds back bytes until they are whole UTF-8 characters."""

    def __init__(self, token_bytes: Callable[[int], bytes], strip_space: bool) -> None:
        self._token_bytes = token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._strip_space = strip_space

    def feed(self, token_id: int) -> str:
        return self._stripped(self._utf8.decode(self._token_bytes(token_id)))

    def finish(self) -> str:
        return self._stripped(self._utf8.decode(b"", final=True))

    def _stripped(self, text: str) -> str:
        if self._strip_space and text:
            self._strip_space = False
            return text.removeprefix(" ")
        return text


class RedecodeStream:
    """For tokenizers whose text is not the tokens' bytes in a row: decodes again, shows what was added."""

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode, self._ids, self._shown = decode, list[int](), ""

    def feed(self, token_id: int) -> str:
        self._ids.append(token_id)
        text = self._decode(self._ids)
        # A trailing U+FFFD may still become a character with the next id.
        return "" if text.endswith("�") else self._show(text)

    def finish(self) -> str:
        return self._show(self._decode(self._ids))

    def _show(self, text: str) -> str:
        added, self._shown = text[len(self._shown) :], text
        return added


def token_table(
    library: LibraryTokenizer, spec: dict[str, Any], size: int
) -> tuple[list[bytes], bool] | None:
    """The bytes of every id, and whether a text loses one leading space when decoded.

    None where a text is not its tokens' bytes in a row (WordPiece and the like). Ids that no token has
    are empty.
    """
    decoder = spec.get("decoder") or {}
    added = {token["id"]: token["content"].encode() for token in spec.get("added_tokens") or []}
    if decoder.get("type") == "ByteLevel":
        strip_space = False
    else:
        steps = [step["type"] for step in decoder.get("decoders", [])]
        if steps not in (["Replace", "ByteFallback", "Fuse"], ["Replace", "ByteFallback", "Fuse", "Strip"]):
            return None
        replace = decoder["decoders"][0]
        if replace["pattern"] != {"String": SPACE_MARK} or replace["content"] != " ":
            return None
        strip_space = len(steps) == 4
    to_bytes = token_to_bytes if decoder["type"] == "ByteLevel" else _piece_to_bytes
    table = [b""] * size
    for token, token_id in library.get_vocab(with_added_tokens=True).items():
        table[token_id] = added[token_id] if token_id in added else to_bytes(token)
    return table, strip_space


def _piece_to_bytes(piece: str) -> bytes:
    """The bytes of a SentencePiece piece: `<0x0A>` is one byte, the mark is a space."""
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace(SPACE_MARK, " ").encode()


def join_bytes(table: Sequence[bytes], ids: Sequence[int], hidden: frozenset[int]) -> bytes:
    """The bytes of `ids` without those in `hidden`. Ids past the table (a padded vocabulary) are empty.

    Raises:
        ValueError: a negative id (the ignored label -100, say), which is never text.
    """
    if len(ids) and min(ids) < 0:
        raise ValueError(f"{min(ids)} is not a token id; take ignored labels out before decoding")
    size = len(table)
    return b"".join(table[i] for i in ids if i < size and i not in hidden)
