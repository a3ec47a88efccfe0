"""One tokenizer, whatever its vocabulary came as: text to ids, ids to text, and a folder others can read.

Its definition is a `tokenizer.json`, the file that transformers, vLLM and most other tools read; a
vocabulary that came as something else is converted on the way in. What trains a model is then exactly
what loads beside it later, and `fingerprint` says whether two tokenizers are the same one.

Special tokens are never made from text and never added to it here: a document that quotes
`<|endoftext|>` does not end there, and whoever puts documents together places the one EOS between them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as LibraryTokenizer

from linnet.config import RequestError
from linnet.text.decoding import ByteStream, RedecodeStream, StreamDecoder, join_bytes, token_table
from linnet.text.engines import Engine, Ids, choose_engine

# What the three engines raise for a surrogate without its partner.
_UNWRITABLE = (UnicodeEncodeError, RuntimeError, TypeError)


class Tokenizer:
    """Text to ids and back.

    Args:
        library: the tokenizer as the tokenizers library has it. It is changed: padding, truncation and
            whatever adds special tokens are taken off.
        name: what to call it in messages.
        eos_id: the token that ends a document.
        bos_id: the token that some models expect before a document, if there is one.
        pad_id: a token that is only padding. One that equals `eos_id` is dropped: whoever masks padding
            would mask the end of every document with it, and the model would never learn to stop.
        sentencepiece_model: the bytes of the `.model` that `library` was converted from, if it was and
            encodes exactly alike.
        chat_template: the Jinja template of a model that was taught to chat; saved beside the vocabulary.
        stop_ids: more tokens that end an answer, beside EOS.
        start_id: the token that is put before a text, a document or a prompt, if there is one: EOS in models that
            Linnet makes, the BOS of a folder whose own rule adds it.
    """

    def __init__(
        self,
        library: LibraryTokenizer,
        name: str,
        eos_id: int,
        bos_id: int | None = None,
        pad_id: int | None = None,
        sentencepiece_model: bytes | None = None,
        chat_template: str | None = None,
        stop_ids: Sequence[int] = (),
        start_id: int | None = None,
    ) -> None:
        library.no_padding()
        library.no_truncation()
        library.post_processor = None
        # Also in the library's own reading, special tokens in text are text.
        library.encode_special_tokens = True
        self._library = library
        self._with_specials: LibraryTokenizer | None = None
        self.name = name
        self.eos_id, self.bos_id, self.start_id = eos_id, bos_id, start_id
        self.pad_id = None if pad_id == eos_id else pad_id
        self.sentencepiece_model = sentencepiece_model
        self.chat_template = chat_template
        self.stop_ids = tuple(dict.fromkeys((eos_id, *stop_ids)))
        spec = json.loads(library.to_str())
        added = library.get_added_tokens_decoder()
        self.special_ids = frozenset(i for i, token in added.items() if token.special)
        # A vocabulary may have holes (ids that no token has); a model needs rows up to the last id.
        self.vocab_size = max(library.get_vocab(with_added_tokens=True).values()) + 1
        for role, token_id in (("EOS", eos_id), ("BOS", bos_id), ("padding", pad_id), ("start", start_id)):
            if token_id is not None and library.id_to_token(token_id) is None:
                raise RequestError(f"the {role} token {token_id} is not in the vocabulary", name)
        self._engine: Engine = choose_engine(library, spec, sentencepiece_model)
        table = token_table(library, spec, self.vocab_size)
        self._table: list[bytes] | None = table[0] if table else None
        self._strip_space = table is not None and table[1]
        self.fingerprint = self._sha256(spec)

    def __repr__(self) -> str:
        return f"Tokenizer({self.name!r}, {self.vocab_size} tokens, {self.engine}, {self.fingerprint[:12]})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels to worker processes as its definition."""
        ids = (self.eos_id, self.bos_id, self.pad_id)
        chat = (self.chat_template, self.stop_ids, self.start_id)
        return _rebuild, (self.to_json(), self.name, *ids, self.sentencepiece_model, *chat)

    @property
    def engine(self) -> str:
        """The program that encodes: `tiktoken`, `sentencepiece` or `tokenizers`. The ids are the same."""
        return self._engine.label

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of `text`, with nothing added before or after.

        Args:
            text: any string. A surrogate without its partner, which UTF-8 cannot write, becomes U+FFFD.
            allow_special: read the special tokens that stand in the text (`<|im_start|>`) as such. Only
                for text that we wrote, such as a chat template's; never for documents.
        """
        if allow_special:
            return list(self._reading_specials().encode(_writable(text), add_special_tokens=False).ids)
        try:
            return self._engine.encode(text)
        except _UNWRITABLE:
            if _writable(text) == text:
                raise
            return self._engine.encode(_writable(text))

    def encode_prompt(self, text: str) -> list[int]:
        """The ids of `text` as the beginning of a document: after `start_id`, as the saved folder reads it."""
        start = [] if self.start_id is None else [self.start_id]
        return start + self.encode(text)

    @property
    def document_bos_id(self) -> int | None:
        """The token that stands before every document in training, where EOS alone does not part them."""
        return None if self.start_id == self.eos_id else self.start_id

    @property
    def vocabulary_fingerprint(self) -> str:
        """sha256 of what decides the ids of a text alone: not of which tokens are BOS and padding."""
        return _fingerprint(json.loads(self._library.to_str()), [self.eos_id], None)

    def encode_batch(self, texts: Sequence[str], threads: int = 1) -> list[Ids]:
        """The ids of each text as a uint32 array; equal to `encode` of each.

        Args:
            texts: the texts.
            threads: how many to work on at once within this process. The engines work outside the
                interpreter, but lists of ids are made in it: processes scale better.
        """
        try:
            return self._engine.encode_batch(texts, threads)
        except _UNWRITABLE:
            writable = [_writable(text) for text in texts]
            if writable == list(texts):
                raise
            return self._engine.encode_batch(writable, threads)

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD.

        A SentencePiece vocabulary that puts a space before every text loses it again here.

        Args:
            ids: token ids, also as an array. Ids past the vocabulary are skipped (a model may have more
                rows than tokens).
            skip_special: leave special tokens out, or write their names.

        Raises:
            ValueError: a negative id.
        """
        if self._table is None:
            return str(self._library.decode(list(map(int, ids)), skip_special_tokens=skip_special))
        text = self.decode_bytes(ids, skip_special).decode("utf-8", errors="replace")
        return text.removeprefix(" ") if self._strip_space else text

    def decode_bytes(self, ids: Sequence[int], skip_special: bool = True) -> bytes:
        """The bytes of `ids` in a row, with the leading space that `decode` may take off."""
        if self._table is None:
            return b"".join(self.token_bytes(i) for i in ids if not (skip_special and i in self.special_ids))
        return join_bytes(self._table, ids, self.special_ids if skip_special else frozenset())

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token as they stand in the middle of a text; a special token's are its name."""
        if not 0 <= token_id < self.vocab_size:
            raise ValueError(f"{token_id} is not an id of {self.name} (0 to {self.vocab_size - 1})")
        if self._table is not None:
            return self._table[token_id]
        # Not bytes in a row: what the token adds after another one.
        before = self._library.decode([self.eos_id], skip_special_tokens=False)
        both = self._library.decode([self.eos_id, token_id], skip_special_tokens=False)
        return str(both[len(before) :]).encode()

    def stream_decoder(self, prompt: Sequence[int] = (), skip_special: bool = True) -> StreamDecoder:
        """Decodes ids as they come; what it gives, joined, is `decode` of them all.

        Args:
            prompt: ids that came before and are not shown. After a prompt, the first token keeps the
                space in front of its word.
            skip_special: as for `decode`.
        """
        if self._table is None:
            stream: StreamDecoder = RedecodeStream(lambda ids: self.decode(ids, skip_special))
        else:
            stream = ByteStream(lambda i: self.decode_bytes([i], skip_special), self._strip_space)
        for token_id in prompt:
            stream.feed(token_id)
        return stream

    def to_json(self) -> str:
        """The `tokenizer.json` that defines this tokenizer."""
        return str(self._library.to_str(pretty=True))

    def token(self, token_id: int | None) -> str | None:
        """The name of a token as its vocabulary writes it; None for none."""
        return None if token_id is None else self._library.id_to_token(token_id)

    def id_of(self, token: str) -> int | None:
        """The id of a token by its name (`<|im_start|>`), or None if there is none."""
        found: int | None = self._library.token_to_id(token)
        return found

    def with_chat(self, chat_template: str | None, stop_ids: Sequence[int] = ()) -> Tokenizer:
        """This tokenizer with another chat template and other tokens beside EOS that end an answer."""
        other = Tokenizer.__new__(Tokenizer)
        other.__dict__.update(self.__dict__)
        other.chat_template, other.stop_ids = chat_template, tuple(dict.fromkeys((self.eos_id, *stop_ids)))
        return other

    def opened_by_eos(self) -> Tokenizer:
        """This tokenizer for a model of our own making: EOS is BOS too and begins every text.

        One whose own rule puts a token before a text keeps it.
        """
        if self.start_id is not None:
            return self
        other = self.with_chat(self.chat_template, self.stop_ids)
        other.bos_id = other.start_id = self.eos_id
        other.fingerprint = other._sha256(json.loads(self._library.to_str()))
        return other

    def save(self, folder: str | Path, model_max_length: int | None = None) -> None:
        """Writes what `transformers.AutoTokenizer.from_pretrained(folder)` reads; see folder_writing.py."""
        from linnet.text.folder_writing import write_folder

        write_folder(self, Path(folder), model_max_length)

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Reads a folder that `save` wrote, or a stock Hugging Face one, with its chat template.

        Raises:
            RequestError: there is no tokenizer in it, or not a whole one.
        """
        from linnet.text.files import read_chat, read_folder

        return read_folder(Path(folder)).with_chat(*read_chat(Path(folder)))

    def _sha256(self, spec: dict[str, Any]) -> str:
        # An EOS that begins texts is there before a document in any case.
        bos_id = None if self.bos_id == self.eos_id else self.bos_id
        return _fingerprint(spec, [self.eos_id, bos_id, self.pad_id], self.document_bos_id)

    def _reading_specials(self) -> LibraryTokenizer:
        if self._with_specials is None:
            self._with_specials = LibraryTokenizer.from_str(self.to_json())
            self._with_specials.encode_special_tokens = False
        return self._with_specials


def _rebuild(text: str, name: str, *facts: Any) -> Tokenizer:
    return Tokenizer(LibraryTokenizer.from_str(text), name, *facts)


def _writable(text: str) -> str:
    """`text` with surrogate pairs joined and lone surrogates replaced, so that UTF-8 can write it."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _fingerprint(spec: dict[str, Any], special_ids: list[int | None], document_bos_id: int | None) -> str:
    """sha256 of what decides ids and text, in one form for the same tokenizer from different files.

    Left out: what Linnet never uses (padding, truncation, special tokens appended to a text), and
    settings that are off, so that one that a later library version writes out changes nothing.
    """
    steps = ("normalizer", "pre_tokenizer", "decoder")
    parts = {key: _switched_on(spec.get(key)) for key in steps}
    model = dict(spec["model"])
    # Apart, because they are long and every entry of theirs counts.
    parts["vocab"], parts["merges"] = model.pop("vocab"), model.pop("merges", None)
    parts["model"] = _switched_on(model)
    flags = ["lstrip", "rstrip", "single_word", "special"] + ["normalized"] * bool(parts["normalizer"])
    parts["added"] = [
        [token["id"], token["content"], *(flag for flag in flags if token[flag])]
        for token in spec.get("added_tokens") or []
    ]
    parts["ids"] = special_ids
    if document_bos_id is not None:
        parts["document_bos"] = document_bos_id
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _switched_on(value: Any) -> Any:
    """`value` without settings that are off, and without those that only concern character offsets."""
    if isinstance(value, list):
        return [_switched_on(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "ByteLevel":
        value = {key: value[key] for key in value if key != "trim_offsets"}
    # 0 is a token's id; only None, False and the empty are off.
    off: tuple[Any, ...] = (None, False, "", [], {})
    return {k: _switched_on(v) for k, v in value.items() if not any(v is o or v == o != 0 for o in off)}
