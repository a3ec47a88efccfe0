"""A converted SentencePiece model encodes as sentencepiece itself does."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import sentencepiece

from linnet.config import RequestError
from linnet.text import Tokenizer, load_tokenizer
from linnet.text.sentencepiece_model import Kind, convert, read_model

EXACT = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
MARKERS = ["<ud>", "girl", "Once upon"]


def train(documents: list[str], **options: object) -> bytes:
    lines = [line for text in documents for line in text.split("\n") if line]
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, vocab_size=1000, minloglevel=2, **options
    )
    return out.getvalue()


def processor(data: bytes) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=data)


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_mistral_converted_encodes_as_sentencepiece(
    mistral_files: dict[str, Path], varied_strings: list[str], version: str
) -> None:
    data = mistral_files[version].read_bytes()
    library = convert(read_model(data))
    library.encode_special_tokens = True
    assert len(varied_strings) > 2000
    texts = [*varied_strings, *(" " * n + "x" for n in range(70)), "a" * 5000]
    theirs = processor(data).encode(texts)
    assert [e.ids for e in library.encode_batch(texts, add_special_tokens=False)] == theirs
    tokenizer = load_tokenizer(str(mistral_files[version]))
    assert [tokenizer.encode(text) for text in texts] == theirs
    assert [tokenizer.decode(ids) for ids in theirs] == processor(data).decode(theirs)


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_the_file_is_read_as_sentencepiece_reads_it(mistral_files: dict[str, Path], version: str) -> None:
    data = mistral_files[version].read_bytes()
    model, oracle = read_model(data), processor(data)
    assert len(model.pieces) == oracle.vocab_size()
    for i, piece in enumerate(model.pieces):
        assert piece.text == oracle.id_to_piece(i)
        assert piece.score == oracle.get_score(i)
        assert (piece.kind is Kind.CONTROL) == oracle.is_control(i)
        assert (piece.kind is Kind.UNKNOWN) == oracle.is_unknown(i)
        assert (piece.kind is Kind.BYTE) == oracle.is_byte(i)
    ids = (model.bos_id, model.eos_id, model.pad_id, model.unknown_id)
    assert ids == (oracle.bos_id(), oracle.eos_id(), oracle.pad_id(), oracle.unk_id())


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "bpe", "byte_fallback": True},
        {"model_type": "bpe", "byte_fallback": True, "user_defined_symbols": MARKERS, "pad_id": 3},
        {"model_type": "bpe", "add_dummy_prefix": False, "user_defined_symbols": MARKERS},
        {"model_type": "unigram"},
        {"model_type": "unigram", "byte_fallback": True, "user_defined_symbols": MARKERS},
    ],
    ids=["bytes", "user-defined", "no prefix", "unigram", "unigram user-defined"],
)
def test_every_kind_of_piece_is_converted(
    documents: list[str], varied_strings: list[str], tmp_path: Path, options: dict[str, object]
) -> None:
    data = train(documents, **EXACT, **options)
    texts = [*varied_strings, "<ud></s><ud>", "girl<s>", "</s>", "Once upongirl<ud><0x0A>", "<unk>girl"]
    theirs = processor(data).encode(texts)
    library = convert(read_model(data))
    library.encode_special_tokens = True
    assert [e.ids for e in library.encode_batch(texts, add_special_tokens=False)] == theirs
    (tmp_path / "own.model").write_bytes(data)
    tokenizer = load_tokenizer(str(tmp_path / "own.model"))
    assert tokenizer.engine == "sentencepiece"
    assert [tokenizer.encode(text) for text in texts] == theirs
    assert tokenizer.pad_id == options.get("pad_id")


def test_a_model_that_rewrites_characters_is_its_tokenizer_json(
    documents: list[str], varied_strings: list[str], tmp_path: Path
) -> None:
    """NFKC on grapheme clusters differs on odd accents; then every tool shares one definition."""
    data = train(documents, model_type="unigram")
    (tmp_path / "default.model").write_bytes(data)
    tokenizer = load_tokenizer(str(tmp_path / "default.model"))
    assert tokenizer.engine == "tokenizers"
    theirs = processor(data).encode(varied_strings)
    same = sum(tokenizer.encode(t) == ids for t, ids in zip(varied_strings, theirs, strict=True))
    assert same / len(varied_strings) > 0.98
    tokenizer.save(tmp_path / "saved")
    assert not (tmp_path / "saved" / "tokenizer.model").exists()
    assert Tokenizer.load(tmp_path / "saved").encode("ﬁne  text") == tokenizer.encode("ﬁne  text")


def test_special_ids_of_a_model(mistral_files: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(str(mistral_files["v3"]))
    assert (tokenizer.vocab_size, tokenizer.eos_id, tokenizer.bos_id, tokenizer.pad_id) == (32768, 2, 1, None)
    assert tokenizer.encode("<s>[INST] x [/INST]", allow_special=True)[:2] == [1, 3]
    assert tokenizer.token_bytes(tokenizer.id_of("<0x0A>")) == b"\n"
    assert tokenizer.token_bytes(tokenizer.id_of("▁the")) == b" the"


@pytest.mark.parametrize("options", [{"model_type": "char"}, {"model_type": "bpe", "eos_id": -1}])
def test_a_model_that_cannot_serve_is_refused(
    documents: list[str], tmp_path: Path, options: dict[str, object]
) -> None:
    size = {"hard_vocab_limit": False} if options["model_type"] == "char" else {}
    (tmp_path / "x.model").write_bytes(train(documents, **EXACT, **options, **size))
    with pytest.raises(RequestError):
        load_tokenizer(str(tmp_path / "x.model"))
