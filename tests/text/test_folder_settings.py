"""A folder's special and added tokens are those that transformers finds in it, or the folder is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Library
from tokenizers import pre_tokenizers

from linnet.config import RequestError
from linnet.text import Tokenizer, load_tokenizer, train_tokenizer
from linnet.text.chat_template import ChatTemplate
from linnet.text.chat_tokens import template_for
from vocabularies import gpt2_files

TEXT = ["the fox and the hare went to the mill and came home again, 12 of 345 days"] * 40
TALK = [{"role": "user", "content": "Hi"}]
SPOKEN = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}{% endfor %}"
)


def write(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def two_files(folder: Path) -> int:
    """GPT-2's two files; how many tokens they have."""
    return len(json.loads((gpt2_files(folder, TEXT) / "vocab.json").read_text()))


def one_file(folder: Path, *specials: str) -> int:
    """A tokenizer.json alone."""
    tokenizer = train_tokenizer(TEXT, 290, specials or ("<|endoftext|>", "<s>"))
    (folder / "tokenizer.json").write_text(tokenizer.to_json())
    return tokenizer.vocab_size


def sentencepiece_model(folder: Path) -> int:
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT), model_prefix=str(folder / "tokenizer"), vocab_size=300, model_type="bpe",
        byte_fallback=True, character_coverage=1.0, normalization_rule_name="identity",
        remove_extra_whitespaces=False, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()
    return 300


VOCABULARIES = {
    "tokenizer.json": (one_file, {}),
    "vocab.json": (two_files, {"tokenizer_class": "GPT2Tokenizer"}),
    "vocab.json of Qwen": (two_files, {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|endoftext|>"}),
    "tokenizer.model": (sentencepiece_model, {"tokenizer_class": "LlamaTokenizer"}),
}


@pytest.fixture(params=VOCABULARIES)
def vocabulary(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, int, dict[str, Any]]:
    """A folder with a vocabulary, how many tokens it has, and what its tokenizer_config.json must say."""
    make, config = VOCABULARIES[request.param]
    return tmp_path, make(tmp_path), dict(config)


def assert_as_transformers(folder: Path) -> Tokenizer:
    transformers = pytest.importorskip("transformers")
    stock, ours = transformers.AutoTokenizer.from_pretrained(folder), load_tokenizer(str(folder))
    assert len(stock) == ours.vocab_size
    assert stock.eos_token_id == ours.eos_id
    assert stock.bos_token_id == ours.bos_id
    special = {i for i, token in stock.added_tokens_decoder.items() if token.special}
    assert special <= ours.special_ids  # a SentencePiece vocabulary has control pieces beside them
    for text in ("the fox went home", "days 345", "a <think>b</think> c", "\n  the mill"):
        assert stock(text)["input_ids"] == ours.encode_prompt(text)
    ours.save(folder / "saved")
    assert Tokenizer.load(folder / "saved").fingerprint == ours.fingerprint
    assert len(transformers.AutoTokenizer.from_pretrained(folder / "saved")) == ours.vocab_size
    return ours


def token(content: str, special: bool = True) -> dict[str, Any]:
    flags = dict.fromkeys(("lstrip", "rstrip", "single_word", "normalized"), False)
    return {"content": content, "special": special, **flags}


def test_added_tokens_of_the_old_form_are_read(vocabulary: tuple[Path, int, dict[str, Any]]) -> None:
    folder, size, config = vocabulary
    write(
        folder,
        tokenizer_config=config | {"bos_token": None},
        special_tokens_map={"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]},
        added_tokens={"<|im_end|>": size + 1, "<|im_start|>": size, "<think>": size + 2},
    )
    if (folder / "tokenizer.model").exists():
        with pytest.raises(RequestError, match=r"added_tokens\.json.*'<think>'"):
            load_tokenizer(str(folder))
        write(folder, added_tokens={"<|im_end|>": size + 1, "<|im_start|>": size})
    ours = assert_as_transformers(folder)
    assert ours.eos_id == size + 1
    assert ours.id_of("<think>") in (size + 2, None)
    assert size not in ours.encode("<|im_start|>")


def test_added_tokens_of_the_new_form_are_read(vocabulary: tuple[Path, int, dict[str, Any]]) -> None:
    folder, size, config = vocabulary
    added = {str(size): token("<|im_start|>"), str(size + 1): token("<|im_end|>")}
    if not (folder / "tokenizer.model").exists():
        added[str(size + 2)] = token("<think>", special=False)
    write(
        folder,
        tokenizer_config=config
        | {"added_tokens_decoder": added, "eos_token": "<|im_end|>", "bos_token": None},
        special_tokens_map={"eos_token": "the"},  # beside the new form nobody reads it
    )
    ours = assert_as_transformers(folder)
    assert ours.eos_id == size + 1
    assert len(ours.encode("<think>")) == 1 or ours.engine == "sentencepiece"


def test_additional_special_tokens_get_the_next_ids(vocabulary: tuple[Path, int, dict[str, Any]]) -> None:
    folder, size, config = vocabulary
    names = ["<|im_start|>", "<|im_end|>"]
    end = "</s>" if (folder / "tokenizer.model").exists() else "<|endoftext|>"
    write(
        folder,
        tokenizer_config={**config, "eos_token": end, "bos_token": None, "additional_special_tokens": names},
    )
    ours = assert_as_transformers(folder)
    assert [ours.id_of(name) for name in names] == [size, size + 1]


def test_an_added_token_with_another_id_than_stated_is_refused(
    vocabulary: tuple[Path, int, dict[str, Any]],
) -> None:
    folder, size, config = vocabulary
    write(folder, tokenizer_config={**config, "added_tokens_decoder": {str(size + 5): token("<think>")}})
    with pytest.raises(RequestError, match=rf"tokenizer_config\.json gives '<think>' the id {size + 5}"):
        load_tokenizer(str(folder))


def test_an_eos_or_bos_that_the_vocabulary_lacks_is_named(
    vocabulary: tuple[Path, int, dict[str, Any]],
) -> None:
    folder, _, config = vocabulary
    for role in ("eos_token", "bos_token"):
        write(folder, tokenizer_config={**config, role: "<|eot|>"})
        with pytest.raises(RequestError, match=rf"its {role} <\|eot\|> is not in the vocabulary"):
            load_tokenizer(str(folder))


def test_null_is_no_token_and_ordinary_tokens_are_no_guess(tmp_path: Path) -> None:
    one_file(tmp_path, "<|endoftext|>", "<s>")
    write(tmp_path, tokenizer_config={"eos_token": "<|endoftext|>", "bos_token": None})
    assert load_tokenizer(str(tmp_path)).bos_id is None
    write(tmp_path, tokenizer_config={"eos_token": "<|endoftext|>"})
    assert load_tokenizer(str(tmp_path)).bos_id == 1  # a special token by a usual name
    spec = json.loads((tmp_path / "tokenizer.json").read_text())
    spec["added_tokens"] = spec["added_tokens"][:1]
    write(tmp_path, tokenizer=spec)
    assert load_tokenizer(str(tmp_path)).bos_id is None  # <s> is an ordinary token now
    spec["added_tokens"] = []
    write(tmp_path, tokenizer=spec, tokenizer_config={})
    with pytest.raises(RequestError, match="nothing says which token"):
        load_tokenizer(str(tmp_path))
    write(tmp_path, tokenizer_config={"eos_token": None})
    with pytest.raises(RequestError, match="nothing says which token"):
        load_tokenizer(str(tmp_path))


def test_the_vocabulary_s_fingerprint_is_the_same_under_another_rule(tmp_path: Path) -> None:
    sentencepiece_model(tmp_path)
    alone = load_tokenizer(str(tmp_path))
    config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "pad_token": "<unk>"}
    write(tmp_path, tokenizer_config=config)
    with_bos = load_tokenizer(str(tmp_path))
    assert (alone.document_bos_id, with_bos.document_bos_id) == (None, 1)
    prints = {t.vocabulary_fingerprint for t in (alone, with_bos, alone.opened_by_eos())}
    assert len(prints) == 1
    assert len({t.fingerprint for t in (alone, with_bos)}) == 2
    one_file(tmp_path)
    assert load_tokenizer(str(tmp_path)).vocabulary_fingerprint not in prints


def test_a_token_named_for_a_role_is_special(tmp_path: Path) -> None:
    one_file(tmp_path, "<|endoftext|>", "<s>")
    spec = json.loads((tmp_path / "tokenizer.json").read_text())
    write(tmp_path, tokenizer={**spec, "added_tokens": []}, tokenizer_config={"eos_token": "<|endoftext|>"})
    ours = load_tokenizer(str(tmp_path))
    assert ours.special_ids == {0}
    assert ours.decode([0, *ours.encode("fox")]) == "fox"


@pytest.mark.parametrize("place", ["tokenizer_config", "special_tokens_map"])
def test_templates_get_the_names_wherever_they_stand(place: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    one_file(tmp_path, "</s>", "<s>")
    names = {"bos_token": "<s>", "eos_token": token("</s>") | {"__type": "AddedToken"}}
    files = {"tokenizer_config": {"chat_template": SPOKEN}}
    files[place] = {**files.get(place, {}), **names}
    write(tmp_path, **files)
    ours = template_for(Tokenizer.load(tmp_path)).render(TALK)
    loaded = ChatTemplate.load(tmp_path)
    assert loaded is not None
    assert loaded.render(TALK) == ours
    stock = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert ours == stock.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    assert ours == "<s>[user] Hi</s>"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer_config", {"added_tokens_decoder": {"x": token("<a>")}}),
        ("tokenizer_config", {"added_tokens_decoder": {"300": "<a>"}}),
        ("tokenizer_config", {"added_tokens_decoder": ["<a>"]}),
        ("tokenizer_config", {"eos_token": 3}),
        ("added_tokens", {"<a>": "x"}),
        ("added_tokens", {"<a>": None}),
    ],
)
def test_a_damaged_settings_file_is_one_line(file: str, content: Any, tmp_path: Path) -> None:
    one_file(tmp_path)
    write(tmp_path, **{file: content})
    with pytest.raises(RequestError, match=file) as caught:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_two_files_of_an_unknown_class_are_refused(tmp_path: Path) -> None:
    two_files(tmp_path)
    write(tmp_path, tokenizer_config={"tokenizer_class": "RobertaTokenizer"})
    with pytest.raises(RequestError, match="RobertaTokenizer"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("says", [{}, {"add_prefix_space": True}, {"add_prefix_space": False}])
@pytest.mark.parametrize("file", [True, False])
@pytest.mark.parametrize("name", ["GPT2Tokenizer", "PreTrainedTokenizerFast"])
def test_a_space_before_a_text_is_put_as_the_class_puts_it(
    name: str, file: bool, says: dict[str, bool], tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    one_file(tmp_path)
    library = Library.from_file(str(tmp_path / "tokenizer.json"))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=file)
    library.save(str(tmp_path / "tokenizer.json"))
    write(tmp_path, tokenizer_config={"tokenizer_class": name, "eos_token": "<|endoftext|>", **says})
    stock, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(str(tmp_path))
    for text in ("the fox", " the fox", "12"):
        assert stock(text)["input_ids"] == ours.encode_prompt(text)


def test_a_sentencepiece_model_without_its_space_before_a_text_is_refused(tmp_path: Path) -> None:
    sentencepiece_model(tmp_path)
    write(tmp_path, tokenizer_config={"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False})
    with pytest.raises(RequestError, match="add_prefix_space: false"):
        load_tokenizer(str(tmp_path))
