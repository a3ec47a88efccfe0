"""Every engine gives the ids of the reference, the tokenizers library, or is not used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from linnet.text import Tokenizer, load_tokenizer
from linnet.text.bytelevel import recognise
from linnet.text.engines import HARD_STRINGS, LibraryEngine

GPT4_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
NO_REGEX = BYTE_LEVEL | {"use_regex": False}
PRE_TOKENIZERS = {
    "GPT-2": BYTE_LEVEL,
    "SmolLM2": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL],
    },
    "Llama 3": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": GPT4_PATTERN}, "behavior": "Isolated", "invert": False},
            NO_REGEX,
        ],
    },
}


def changed(tokenizer: Tokenizer, tmp_path: Path, **parts: object) -> Tokenizer:
    """A tokenizer whose `tokenizer.json` has some parts replaced."""
    spec = json.loads(tokenizer.to_json())
    spec["model"] |= parts.pop("model", {})  # type: ignore[arg-type]
    spec |= parts
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    return Tokenizer.load(tmp_path)


def reference(tokenizer: Tokenizer) -> Library:
    library = Library.from_str(tokenizer.to_json())
    library.encode_special_tokens = True
    return library


def assert_as_reference(tokenizer: Tokenizer, texts: list[str]) -> None:
    library = reference(tokenizer)
    for text in texts:
        assert tokenizer.encode(text) == library.encode(text, add_special_tokens=False).ids, repr(text)


@pytest.mark.parametrize("family", PRE_TOKENIZERS)
@pytest.mark.parametrize("nfc", [False, True])
def test_tiktoken_encodes_as_the_library(
    trained: Tokenizer, varied_strings: list[str], tmp_path: Path, family: str, nfc: bool
) -> None:
    normalizer = {"type": "NFC"} if nfc else None
    tokenizer = changed(trained, tmp_path, pre_tokenizer=PRE_TOKENIZERS[family], normalizer=normalizer)
    assert tokenizer.engine == "tiktoken"
    assert_as_reference(tokenizer, [*HARD_STRINGS, *varied_strings])


def test_gpt2_files_encode_as_the_library_and_as_tiktokens_own_form(
    gpt2_like: Path, varied_strings: list[str]
) -> None:
    tokenizer = Tokenizer.load(gpt2_like)
    assert tokenizer.engine == "tiktoken"
    assert_as_reference(tokenizer, varied_strings)
    ranks = {tokenizer.token_bytes(i): i for i in range(tokenizer.vocab_size) if i != tokenizer.eos_id}
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
    stock = tiktoken.Encoding("stock", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    assert [tokenizer.encode(t) for t in varied_strings] == [stock.encode_ordinary(t) for t in varied_strings]


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet="abeinorst 'E1\n\té.", max_size=60))
def test_the_trained_tokenizer_encodes_as_the_library(trained: Tokenizer, text: str) -> None:
    assert trained.encode(text) == LibraryEngine(trained._library).encode(text)


def test_every_code_point_is_cut_alike(trained: Tokenizer) -> None:
    assert trained.engine == "tiktoken"
    points = [*range(0xD800), *range(0xE000, 0x10000), *range(0x10000, 0x30000, 16)]
    samples = [f"a{chr(p)}1 {chr(p)}{chr(p)}. " for p in points]
    texts = ["".join(samples[at : at + 256]) for at in range(0, len(samples), 256)]
    theirs = [encoding.ids for encoding in reference(trained).encode_batch(texts, add_special_tokens=False)]
    assert [trained.encode(text) for text in texts] == theirs


@pytest.mark.parametrize(
    "parts",
    [
        {"model": {"dropout": 0.1}},
        {"model": {"end_of_word_suffix": "</w>"}},
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": BYTE_LEVEL | {"add_prefix_space": True}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, BYTE_LEVEL]}},
    ],
    ids=["dropout", "suffix", "lowercase", "prefix space", "whitespace"],
)
def test_what_tiktoken_cannot_say_stays_with_the_library(
    trained: Tokenizer, tmp_path: Path, parts: dict[str, object]
) -> None:
    tokenizer = changed(trained, tmp_path, **parts)
    assert tokenizer.engine == "tokenizers"
    if parts != {"model": {"dropout": 0.1}}:
        assert_as_reference(tokenizer, list(HARD_STRINGS))


def test_a_vocabulary_whose_merges_are_out_of_order_stays_with_the_library(
    trained: Tokenizer, tmp_path: Path
) -> None:
    spec = json.loads(trained.to_json())
    merges = spec["model"]["merges"]
    swapped = [merges[1], merges[0], *merges[2:]]
    tokenizer = changed(trained, tmp_path, model={"merges": swapped})
    assert tokenizer.engine == "tokenizers"
    assert_as_reference(tokenizer, list(HARD_STRINGS))


def test_a_token_that_its_own_merges_do_not_make_keeps_tiktoken_out(tmp_path: Path) -> None:
    """Merges bc, ab, ab+c: the text abc is a, bc for the library, but tiktoken would join them."""
    from linnet.text.bytelevel import BYTE_CHARACTERS

    tokens = [*BYTE_CHARACTERS, "bc", "ab", "abc", "</s>"]
    merges = [["b", "c"], ["a", "b"], ["ab", "c"]]
    spec = json.loads(Library.from_str(_bare_json({t: i for i, t in enumerate(tokens)}, merges)).to_str())
    assert recognise(Library.from_str(json.dumps(spec)), spec) is None
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.engine == "tokenizers"
    assert [tokenizer.token_bytes(i) for i in tokenizer.encode("abc")] == [b"a", b"bc"]


@pytest.mark.parametrize("family", PRE_TOKENIZERS)
def test_characters_that_one_engine_does_not_know_change_no_ids(tmp_path: Path, family: str) -> None:
    """A vocabulary that joins any two bytes around `a`, `1`, `.` and a space shows where a text was cut."""
    from linnet.text.bytelevel import BYTE_CHARACTERS

    beside = [BYTE_CHARACTERS[ord(sign)] for sign in "a1. "]
    pairs = [pair for sign in beside for byte in BYTE_CHARACTERS for pair in ((sign, byte), (byte, sign))]
    merges = [list(pair) for pair in dict.fromkeys(pairs)]
    tokens = [*BYTE_CHARACTERS, *map("".join, merges), "</s>"]
    spec = json.loads(_bare_json({token: i for i, token in enumerate(tokens)}, merges))
    (tmp_path / "tokenizer.json").write_text(json.dumps({**spec, "pre_tokenizer": PRE_TOKENIZERS[family]}))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.engine == "tiktoken"
    # Digits of Unicode 17, which the library's Digits knew before tiktoken did, and their neighbourhood.
    codes = [*range(0x11DA0, 0x11E00), *range(0x16FE0, 0x17000), *range(0x80, 0xD800, 61)]
    codes += range(0xE000, 0x40000, 61)
    texts = [f"a{c}a1{c}1.{c}. {c} {c}{c}" for c in map(chr, codes)]
    assert_as_reference(tokenizer, texts)
    assert [ids.tolist() for ids in tokenizer.encode_batch(texts)] == [tokenizer.encode(t) for t in texts]


def _bare_json(vocab: dict[str, int], merges: list[list[str]]) -> str:
    model = {"type": "BPE", "vocab": vocab, "merges": merges}
    return json.dumps({"model": model, "pre_tokenizer": BYTE_LEVEL, "decoder": BYTE_LEVEL})


def test_added_tokens_that_are_not_special_are_found_in_text(trained: Tokenizer, tmp_path: Path) -> None:
    spec = json.loads(trained.to_json())
    flags = {"special": False, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    spec["added_tokens"] += [
        {"id": 2000, "content": "<think>", **flags},
        {"id": 2001, "content": "<think><think>", **flags},
    ]
    tokenizer = changed(trained, tmp_path, added_tokens=spec["added_tokens"])
    assert tokenizer.engine == "tiktoken"
    assert tokenizer.vocab_size == 2002
    text = "so <think>hm<think><think> é</think><|endoftext|>"
    assert_as_reference(tokenizer, [text, "<think>", "a<think"])
    assert tokenizer.encode(text).count(2000) == 1
    assert tokenizer.encode(text).count(2001) == 1
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("stretch", ["a", " ", "\n", "é", "字", "1", "-"])
def test_very_long_documents_without_a_break_are_encoded(
    trained: Tokenizer, stretch: str, capfd: pytest.CaptureFixture[str]
) -> None:
    text = "x" + stretch * 1_200_000 + "y"
    assert trained.decode(trained.encode(text)) == text
    assert "panicked" not in capfd.readouterr().err


def test_long_whitespace_is_cut_as_the_library_cuts_it(trained: Tokenizer) -> None:
    for text in (" " * 150_000 + "x", "é" + " \n" * 75_000 + " x", "\t" * 120_000):
        assert trained.encode(text) == LibraryEngine(trained._library).encode(text)


def test_a_sentencepiece_vocabulary_is_encoded_by_sentencepiece(mistral_files: dict[str, Path]) -> None:
    assert load_tokenizer(str(mistral_files["v1"])).engine == "sentencepiece"
