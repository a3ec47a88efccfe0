"""What every tokenizer promises, whatever its vocabulary came as."""

from __future__ import annotations

import json
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnet.config import RequestError
from linnet.text import Tokenizer, load_tokenizer

MARKED = "one<|endoftext|>two <|im_start|>user\n</s><s><|pad|>"
ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=200)


@pytest.fixture(params=["trained", "gpt2_like", "v1", "v3"], scope="session")
def any_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "trained":
        return request.getfixturevalue("trained")
    if request.param == "gpt2_like":
        return Tokenizer.load(request.getfixturevalue("gpt2_like"))
    return _cached(request.getfixturevalue("mistral_files")[request.param])


@settings(max_examples=300, deadline=None)
@given(text=ANY_TEXT)
def test_byte_level_text_survives_the_round_trip(trained: Tokenizer, text: str) -> None:
    ids = trained.encode(text)
    assert trained.decode(ids) == text
    assert trained.decode_bytes(ids) == text.encode()
    assert b"".join(trained.token_bytes(i) for i in ids) == text.encode()


@settings(max_examples=300, deadline=None)
@given(text=ANY_TEXT)
def test_sentencepiece_round_trip_loses_only_its_own_space_mark(
    mistral_files: dict[str, Path], text: str
) -> None:
    tokenizer = _cached(mistral_files["v1"])
    assert tokenizer.decode(tokenizer.encode(text)) == text.replace("▁", " ")


_loaded: dict[Path, Tokenizer] = {}


def _cached(path: Path) -> Tokenizer:
    if path not in _loaded:
        _loaded[path] = load_tokenizer(str(path))
    return _loaded[path]


def test_text_that_quotes_special_tokens_is_text(any_tokenizer: Tokenizer) -> None:
    ids = any_tokenizer.encode(MARKED)
    assert not set(ids) & any_tokenizer.special_ids
    assert any_tokenizer.decode(ids) == MARKED
    assert not any_tokenizer.special_ids & set(any_tokenizer.encode_batch([MARKED])[0].tolist())


def test_special_tokens_are_read_from_text_only_when_allowed(trained: Tokenizer) -> None:
    start, end = trained.id_of("<|im_start|>"), trained.id_of("<|im_end|>")
    ids = trained.encode("<|im_start|>user\nhi<|im_end|>", allow_special=True)
    assert ids[0] == start
    assert ids[-1] == end
    assert ids[1:-1] == trained.encode("user\nhi")
    assert trained.decode(ids) == "user\nhi"
    assert trained.decode(ids, skip_special=False) == "<|im_start|>user\nhi<|im_end|>"
    assert trained.encode("<|im_start|>") != [start]  # asking once changes nothing for later


def test_nothing_is_added_around_a_text(any_tokenizer: Tokenizer) -> None:
    assert any_tokenizer.encode("") == []
    ids = any_tokenizer.encode("Hello")
    assert any_tokenizer.eos_id not in ids
    assert any_tokenizer.bos_id not in ids


def test_batches_equal_single_texts_on_any_number_of_threads(
    any_tokenizer: Tokenizer, varied_strings: list[str]
) -> None:
    texts = varied_strings[:300]
    single = [any_tokenizer.encode(text) for text in texts]
    for threads in (1, 3):
        batch = any_tokenizer.encode_batch(texts, threads=threads)
        assert all(ids.dtype == np.uint32 for ids in batch)
        assert [ids.tolist() for ids in batch] == single


def test_a_lone_surrogate_becomes_the_replacement_character(any_tokenizer: Tokenizer) -> None:
    assert any_tokenizer.decode(any_tokenizer.encode("a\ud800b")) == "a\ufffdb"
    assert any_tokenizer.decode(any_tokenizer.encode_batch(["a\ud800b"])[0]) == "a\ufffdb"


def test_streamed_text_equals_decoded_text_and_is_never_half_a_character(any_tokenizer: Tokenizer) -> None:
    text = "Naïve 👩‍👩‍👧 日本語 and\n  plain"
    stream = any_tokenizer.stream_decoder()
    shown = [stream.feed(i) for i in any_tokenizer.encode(text)]
    assert not any("\ufffd" in part for part in shown)
    assert "".join(shown) + stream.finish() == text


def test_streaming_any_ids_equals_decoding_them(any_tokenizer: Tokenizer) -> None:
    rng = random.Random(7)
    for _ in range(200):
        ids = [rng.randrange(any_tokenizer.vocab_size + 5) for _ in range(rng.randrange(12))]
        for skip in (True, False):
            stream = any_tokenizer.stream_decoder(skip_special=skip)
            assert "".join(map(stream.feed, ids)) + stream.finish() == any_tokenizer.decode(ids, skip)


def test_what_follows_a_prompt_keeps_the_space_before_its_word(any_tokenizer: Tokenizer) -> None:
    ids = any_tokenizer.encode("Once upon a time")
    prompt = any_tokenizer.encode("Once upon")
    assert ids[: len(prompt)] == prompt
    stream = any_tokenizer.stream_decoder(prompt)
    assert "".join(map(stream.feed, ids[len(prompt) :])) + stream.finish() == " a time"


def test_an_ignored_label_is_not_decoded_as_a_token(trained: Tokenizer) -> None:
    with pytest.raises(ValueError, match="-100"):
        trained.decode([5, -100])


def test_a_tokenizer_travels_to_another_process_unchanged(any_tokenizer: Tokenizer) -> None:
    copy = pickle.loads(pickle.dumps(any_tokenizer))
    assert copy.fingerprint == any_tokenizer.fingerprint
    assert (copy.name, copy.engine) == (any_tokenizer.name, any_tokenizer.engine)
    assert copy.encode(MARKED) == any_tokenizer.encode(MARKED)


def test_transformers_reads_the_saved_folder_alike(
    any_tokenizer: Tokenizer, varied_strings: list[str], tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    any_tokenizer.save(tmp_path, model_max_length=512)
    stock = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = [any_tokenizer.encode_prompt(text) for text in varied_strings]
    # split_special_tokens: transformers reads quoted markers as special unless told not to.
    assert stock(varied_strings, split_special_tokens=True)["input_ids"] == ours
    ours = [any_tokenizer.encode(text) for text in varied_strings]
    plain = stock(varied_strings, split_special_tokens=True, add_special_tokens=False)
    assert plain["input_ids"] == ours
    assert stock.batch_decode(ours) == [any_tokenizer.decode(ids, skip_special=False) for ids in ours]
    assert stock.batch_decode(ours, skip_special_tokens=True) == [any_tokenizer.decode(ids) for ids in ours]
    marked = stock(MARKED, add_special_tokens=False)
    assert marked["input_ids"] == any_tokenizer.encode(MARKED, allow_special=True)
    assert (stock.eos_token_id, stock.bos_token_id, stock.pad_token_id) == (
        any_tokenizer.eos_id,
        any_tokenizer.bos_id,
        any_tokenizer.pad_id,
    )
    assert len(stock) == any_tokenizer.vocab_size
    assert stock.model_max_length == 512
    assert not stock.clean_up_tokenization_spaces


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "smollm3", "mistral"])
@pytest.mark.parametrize("vocabulary", ["trained", "v1"])
def test_transformers_reads_it_alike_beside_any_familys_model(
    request: pytest.FixtureRequest, varied_strings: list[str], tmp_path: Path, vocabulary: str, family: str
) -> None:
    transformers = pytest.importorskip("transformers")
    if vocabulary == "trained":
        tokenizer = request.getfixturevalue("trained")
    else:
        tokenizer = _cached(request.getfixturevalue("mistral_files")[vocabulary])
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    stock = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = varied_strings[:100]
    assert stock(texts, split_special_tokens=True)["input_ids"] == [tokenizer.encode_prompt(t) for t in texts]


def test_a_template_that_writes_bos_gets_one_bos(mistral_files: dict[str, Path], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = _cached(mistral_files["v3"])
    tokenizer.save(tmp_path)
    stock = transformers.AutoTokenizer.from_pretrained(tmp_path)
    stock.chat_template = "<s>{{ messages[0]['content'] }}</s>"
    ids = stock.apply_chat_template([{"role": "user", "content": "Hi"}], return_dict=False)
    assert (ids.count(tokenizer.bos_id), ids.count(tokenizer.eos_id)) == (1, 1)
    assert ids == tokenizer.encode("<s>Hi</s>", allow_special=True)


def test_the_saved_folder_is_the_same_tokenizer(any_tokenizer: Tokenizer, tmp_path: Path) -> None:
    any_tokenizer.save(tmp_path / "a")
    again = Tokenizer.load(tmp_path / "a")
    assert again.fingerprint == any_tokenizer.fingerprint
    assert again.engine == any_tokenizer.engine
    again.save(tmp_path / "b")
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_the_fingerprint_is_of_behaviour_not_of_files(gpt2_like: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Library
    from tokenizers import processors

    two_files = Tokenizer.load(gpt2_like)
    # As the stock file differs from the two: offsets, a post-processor, another flag that says nothing.
    library = Library.from_str(two_files.to_json())
    library.post_processor = processors.ByteLevel(trim_offsets=False)
    spec = json.loads(library.to_str())
    spec["added_tokens"][0]["normalized"] = True
    spec["decoder"]["add_prefix_space"] = True
    spec["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    one_file = Tokenizer.load(tmp_path)
    assert one_file.encode("a long text of more than eight tokens") == two_files.encode(
        "a long text of more than eight tokens"
    )
    assert one_file.fingerprint == two_files.fingerprint
    spec["model"]["merges"] = spec["model"]["merges"][:-1]
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    assert Tokenizer.load(tmp_path).fingerprint != two_files.fingerprint


def test_padding_that_is_eos_is_no_padding(trained: Tokenizer, tmp_path: Path) -> None:
    trained.save(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}))
    (tmp_path / "special_tokens_map.json").unlink()
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.pad_id is None
    tokenizer.save(tmp_path / "again")
    assert not json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())["pad_token"]


def test_a_stock_folder_keeps_its_bos_and_loses_what_it_appends(trained: Tokenizer, tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Library
    from tokenizers import processors

    trained.save(tmp_path)
    library = Library.from_file(str(tmp_path / "tokenizer.json"))
    library.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A <|im_end|>", special_tokens=[("<|im_start|>", 1), ("<|im_end|>", 2)]
    )
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode("Hello") == trained.encode("Hello")
    assert tokenizer.encode("Hello", allow_special=True) == trained.encode("Hello")
    assert tokenizer.encode_prompt("Hello") == [1, *trained.encode("Hello")]
    tokenizer.save(tmp_path / "saved")
    saved = Library.from_file(str(tmp_path / "saved" / "tokenizer.json"))
    assert saved.encode("Hello").ids == tokenizer.encode_prompt("Hello")
    assert saved.encode("").ids == [1]
    assert Tokenizer.load(tmp_path / "saved").encode_prompt("Hello") == tokenizer.encode_prompt("Hello")


def test_a_tokenizer_that_is_not_bytes_in_a_row_still_decodes_and_streams(tmp_path: Path) -> None:
    vocab = {t: i for i, t in enumerate(["[UNK]", "</s>", "un", "##likely", "story", "a", "##s"])}
    spec = {
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "vocab": vocab,
        }
        | {"max_input_chars_per_word": 100},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "added_tokens": [
            {"id": 1, "content": "</s>", "special": True}
            | {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        ],
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    tokenizer = Tokenizer.load(tmp_path)
    ids = tokenizer.encode("a unlikely storys")
    assert tokenizer.decode(ids) == "a unlikely storys"
    stream = tokenizer.stream_decoder()
    assert "".join(map(stream.feed, ids)) + stream.finish() == "a unlikely storys"
    assert [tokenizer.token_bytes(i) for i in ids] == [b" a", b" un", b"likely", b" story", b"s"]


def test_a_tokenizer_without_an_end_of_text_is_refused(trained: Tokenizer, tmp_path: Path) -> None:
    spec = json.loads(trained.to_json())
    spec["added_tokens"] = []
    renamed = {f"x{i}" if i < 4 else token: i for token, i in spec["model"]["vocab"].items()}
    spec["model"]["vocab"] = renamed
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(RequestError, match=r"ends a document.*eos_token"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", b'{"version": "1.0"'),
        ("tokenizer.json", b'{"config": {}, "vocab": []}'),
        ("tokenizer.model", b"\x0a\x05hello"),
        ("tokenizer.model", b"plain text, not a model at all"),
        ("tokenizer.model", b""),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    for spec in (tmp_path, tmp_path / name):
        with pytest.raises(RequestError, match="tokenizer") as caught:
            load_tokenizer(str(spec))
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)


def test_a_damaged_gpt2_folder_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("[]")
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b c\n")
    with pytest.raises(RequestError, match=r"vocab\.json"):
        Tokenizer.load(tmp_path)
