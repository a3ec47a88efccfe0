"""A SentencePiece `.model` as a `tokenizer.json`, so that every tool reads what our models were trained on.

The file is a protocol buffer (`sentencepiece_model.proto` of google/sentencepiece). Its five kinds of
piece and its normaliser decide what encoding gives, and the Python package shows only some of them, so
the few fields needed are read here. A BPE model stores a score for each piece and no merges; the merges
are every way to cut a piece into two pieces, the piece with the higher score first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as LibraryTokenizer

from linnet.config import RequestError
from linnet.text.decoding import SPACE_MARK


class Kind(IntEnum):
    """`ModelProto.SentencePiece.Type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3  # never found in text: <s>, </s>, [INST]
    USER_DEFINED = 4  # always one token where text has it, never part of a merge
    UNUSED = 5
    BYTE = 6  # <0x0A>: stands in for a character that no piece holds


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary; its id is its place."""

    text: str
    score: float
    kind: Kind


@dataclass
class SentencePieceModel:
    """What of a `.model` decides its encoding."""

    pieces: list[Piece] = field(default_factory=list)
    algorithm: int = 1  # 1 unigram, 2 BPE, 3 words, 4 characters
    space_after_word: bool = False
    character_map: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_spaces: bool = True
    escape_spaces: bool = True
    unknown_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    pad_id: int = -1


def read_model(data: bytes) -> SentencePieceModel:
    """Reads the bytes of a `.model`.

    Raises:
        ValueError: not such a file.
    """
    model = SentencePieceModel()
    for number, value in _fields(data):
        if number == 1:
            model.pieces.append(_read_piece(_bytes(value)))
        elif number == 2:
            _read_trainer(model, _bytes(value))
        elif number == 3:
            _read_normalizer(model, _bytes(value))
    if not model.pieces:
        raise ValueError("it holds no pieces")
    return model


def _read_piece(data: bytes) -> Piece:
    found = dict(_fields(data))
    (score,) = struct.unpack("<f", _bytes(found.get(2, b"\0\0\0\0")))
    return Piece(_bytes(found[1]).decode(), score, Kind(_int(found.get(3, Kind.NORMAL))))


def _read_trainer(model: SentencePieceModel, data: bytes) -> None:
    found = dict(_fields(data))
    model.algorithm = _int(found.get(3, 1))
    model.space_after_word = bool(found.get(24, 0))
    model.unknown_id, model.bos_id = _int(found.get(40, 0)), _int(found.get(41, 1))
    model.eos_id, model.pad_id = _int(found.get(42, 2)), _int(found.get(43, -1))


def _read_normalizer(model: SentencePieceModel, data: bytes) -> None:
    found = dict(_fields(data))
    model.character_map = _bytes(found.get(2, b""))
    model.add_dummy_prefix = bool(found.get(3, 1))
    model.remove_extra_spaces = bool(found.get(4, 1))
    model.escape_spaces = bool(found.get(5, 1))


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of a protocol buffer message (varint, 64-bit, length, 32-bit)."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            # Negative int32 is sent as a 64-bit two's complement.
            yield number, value - (1 << 64) if value >> 63 else value
            continue
        if wire not in (1, 2, 5) or number == 0:
            raise ValueError("it is not a protocol buffer")
        size, at = _varint(data, at) if wire == 2 else (8 if wire == 1 else 4, at)
        if at + size > len(data):
            raise ValueError("it is cut short")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("it is cut short")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("it has a field of another type")
    return value


def _int(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("it has a field of another type")
    return value


def convert(model: SentencePieceModel, where: str = "") -> LibraryTokenizer:
    """The `tokenizer.json` that encodes as the `.model` does.

    Raises:
        RequestError: a word or character model, unused pieces, or spaces written after words.
    """
    unused = any(piece.kind is Kind.UNUSED for piece in model.pieces)
    if model.algorithm not in (1, 2) or model.space_after_word or not model.escape_spaces or unused:
        raise RequestError(
            "this SentencePiece model has no tokenizer.json that encodes alike (BPE and unigram models "
            "without unused pieces and with spaces marked before words have one)",
            where,
            "use such a model, or train a tokenizer with `linnet data tokenizer`",
        )
    literal = _user_defined(model)
    cut_out = bool(literal) and model.add_dummy_prefix
    library = LibraryTokenizer(_bpe(model, cut_out) if model.algorithm == 2 else _unigram(model))
    library.normalizer = _normalizer(model)
    if cut_out:
        library.pre_tokenizer = _cut_out(literal, model)
    elif literal:
        library.add_tokens([AddedToken(text, special=False, normalized=True) for text in literal])
    steps: list[decoders.Decoder] = [
        decoders.Replace(SPACE_MARK, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    if model.add_dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    library.decoder = decoders.Sequence(steps)
    hidden = [piece.text for piece in model.pieces if piece.kind in (Kind.CONTROL, Kind.UNKNOWN)]
    library.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in hidden])
    return library


def _user_defined(model: SentencePieceModel) -> list[str]:
    """The user-defined pieces that text can hold: a space in one never meets the marks in the text."""
    return [p.text for p in model.pieces if p.kind is Kind.USER_DEFINED and " " not in p.text]


def _cut_out(literal: list[str], model: SentencePieceModel) -> pre_tokenizers.PreTokenizer:
    """Makes each user-defined piece a stretch of its own, which a BPE with `ignore_merges` takes as it is.

    They cannot be added tokens: the normaliser would put its prefix in front of an added token too, and
    then not find it. Taking stretches as they are would also turn the bare name of a control or byte
    piece (`</s>` alone between two user-defined pieces) into that piece, so such a stretch is cut once
    more, after the first token that the merges make of it.
    """
    longest_first = sorted(literal, key=len, reverse=True)
    steps = [pre_tokenizers.Split(Regex("|".join(map(_regex_literal, longest_first))), "isolated")]
    if model.algorithm != 2:
        return steps[0]
    merges_only = _bpe(model, ignore_merges=False)
    cuts = []
    for piece in model.pieces:
        if piece.kind in (Kind.CONTROL, Kind.UNKNOWN, Kind.BYTE):
            first = merges_only.tokenize(piece.text)[0].value
            rest = piece.text.removeprefix(first)
            if rest and rest != piece.text:
                cuts.append(f"{_regex_literal(first)}(?={_regex_literal(rest)}\\z)")
    if cuts:
        steps.append(pre_tokenizers.Split(Regex(rf"\A(?:{'|'.join(cuts)})"), "isolated"))
    return pre_tokenizers.Sequence(steps)


def _regex_literal(text: str) -> str:
    return "".join(c if c.isalnum() or ord(c) > 127 else f"\\x{ord(c):02x}" for c in text)


def _has_bytes(model: SentencePieceModel) -> bool:
    return sum(piece.kind is Kind.BYTE for piece in model.pieces) == 256


def _bpe(model: SentencePieceModel, ignore_merges: bool) -> models.BPE:
    ids = {piece.text: i for i, piece in enumerate(model.pieces)}
    mergeable = {piece.text: piece.score for piece in model.pieces if piece.kind is Kind.NORMAL}
    merges = []
    for text, score in mergeable.items():
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in mergeable and right in mergeable:
                # sentencepiece merges the leftmost of equal scores (Mistral's runs of spaces), so a run
                # grows from its left end. Longer left parts first does the same with ranked pairs.
                merges.append((-score, -len(left), -len(right), ids[left], left, right))
    merges.sort()
    return models.BPE(
        vocab=ids,
        merges=[(left, right) for *_, left, right in merges],
        unk_token=model.pieces[model.unknown_id].text,
        fuse_unk=True,
        byte_fallback=_has_bytes(model),
        ignore_merges=ignore_merges,
    )


def _unigram(model: SentencePieceModel) -> models.Unigram:
    # The library finds every piece in text; sentencepiece never finds these.
    never = (Kind.CONTROL, Kind.UNKNOWN, Kind.BYTE)
    vocab = [(p.text, -1e9 if p.kind in never else p.score) for p in model.pieces]
    return models.Unigram(vocab, model.unknown_id, byte_fallback=_has_bytes(model))


def _normalizer(model: SentencePieceModel) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if model.character_map:
        steps.append(normalizers.Precompiled(model.character_map))
    if model.remove_extra_spaces:
        steps += [
            normalizers.Replace(Regex(r"\A +| +\z"), ""),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    if model.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE_MARK))
    steps.append(normalizers.Replace(" ", SPACE_MARK))
    return normalizers.Sequence(steps)
