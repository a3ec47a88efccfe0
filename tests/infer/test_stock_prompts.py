"""Stock tools, used without any setting, read a folder's prompts and end its answers as Linnet does."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from talkers import FAMILIES, greedy, network
from tokenizers import Tokenizer as Library
from tokenizers import processors

from linnet.infer import load_generator
from linnet.infer.conversation import TurnConversation
from linnet.model import save_model
from linnet.text import Tokenizer, load_tokenizer, train_tokenizer
from linnet.text.chat_template import CHATML, PLAIN
from linnet.text.chat_tokens import chatting, template_for
from vocabularies import gpt2_files

transformers = pytest.importorskip("transformers")
TEXT = ["the fox and the hare went to the mill and came home again, 12 of 345 days"] * 40
PROMPTS = ["the fox and", "hare", "12 mills"]
TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "the hare"},
    {"role": "assistant", "content": "went home"},
    {"role": "user", "content": "and the fox"},
]


def sentencepiece_file(folder: Path) -> Path:
    """A SentencePiece model with `<s>` and `</s>`, as Llama 2's."""
    import sentencepiece

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT), model_writer=made, vocab_size=300, model_type="bpe", byte_fallback=True,
        character_coverage=1.0, normalization_rule_name="identity", remove_extra_whitespaces=False,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    path = folder / "tokenizer.model"
    path.write_bytes(made.getvalue())
    return path


@pytest.fixture(scope="module", params=["trained", "gpt2", "sentencepiece"])
def own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The tokenizer of a model of our own making."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "trained":
        return train_tokenizer(TEXT, 290)
    file = gpt2_files(folder, TEXT) if request.param == "gpt2" else sentencepiece_file(folder)
    return load_tokenizer(str(file)).opened_by_eos()


def saved(tokenizer: Tokenizer, folder: Path, family: str = "llama") -> Path:
    """A model folder with this tokenizer."""
    folder.mkdir(exist_ok=True)
    size = {"vocab_size": tokenizer.vocab_size, "max_position_embeddings": 256}
    model = network(family, **size, **FAMILIES[family])
    ids = {"eos_id": tokenizer.eos_id, "bos_id": tokenizer.bos_id, "pad_id": tokenizer.pad_id}
    save_model(model, folder, **ids)
    tokenizer.save(folder)
    return folder


def stock_continuation(folder: Path, inputs: Any) -> tuple[list[int], list[int]]:
    """Prompt and greedy continuation of transformers' generate with its defaults."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    said = model.generate(**inputs, do_sample=False, max_new_tokens=20)[0].tolist()
    length = inputs["input_ids"].shape[1]
    return said[:length], said[length:]


def assert_prompts_agree(folder: Path) -> None:
    stock, ours = transformers.AutoTokenizer.from_pretrained(folder), load_generator(folder)
    for prompt in PROMPTS:
        (completion,) = ours.generate([prompt], greedy(max_new_tokens=20))
        read, said = stock_continuation(folder, stock(prompt, return_tensors="pt"))
        assert (completion.prompt_ids, completion.ids) == (read, said)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_model_reads_a_prompt_alike(own: Tokenizer, family: str, tmp_path: Path) -> None:
    folder = saved(own, tmp_path, family)
    assert_prompts_agree(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["bos_token"] == config["eos_token"]
    assert config["add_bos_token"] is True
    stock = transformers.AutoTokenizer.from_pretrained(folder)
    assert stock("fox")["input_ids"] == [own.eos_id, *own.encode("fox")]
    assert stock("fox", "hare")["input_ids"].count(own.eos_id) == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_chat_model_reads_a_conversation_alike(own: Tokenizer, family: str, tmp_path: Path) -> None:
    template = template_for(own)
    assert template.source == (CHATML if own.id_of("<|im_end|>") is not None else PLAIN)
    folder = saved(chatting(own, template), tmp_path, family)
    stock = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = stock.apply_chat_template(
        TALK, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    generator, tokenizer = load_generator(folder), Tokenizer.load(folder)
    talk = TurnConversation(generator, tokenizer, template_for(tokenizer), greedy(max_new_tokens=20))
    talk.messages = [dict(turn) for turn in TALK]
    prompt = talk._prompt()
    read, said = stock_continuation(folder, inputs)
    assert prompt == read
    assert talk.generator.generate([prompt], greedy(max_new_tokens=20))[0].ids == said
    rendered = stock.apply_chat_template(TALK[:2], tokenize=False, add_generation_prompt=True)
    bos = own.token(own.eos_id)
    assert rendered.startswith(bos)
    assert rendered.count(bos) == 1


def stock_folder(kind: str, folder: Path) -> Path:
    """A folder as other people's, with a rule of its own for what stands around a text."""
    if kind in ("model", "model without bos"):
        sentencepiece_file(folder)
        add = kind == "model"
        config: dict[str, Any] = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": add}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        vocabulary = load_tokenizer(str(folder))
    elif kind in ("two files", "two files with bos"):
        gpt2_files(folder, TEXT)
        config = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": kind.endswith("bos")}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        vocabulary = load_tokenizer(str(folder))
    else:
        vocabulary = train_tokenizer(TEXT, 290, ("</s>", "<s>", "<|pad|>"))
        library = Library.from_str(vocabulary.to_json())
        single = {"bos": "<s> $A", "bos and eos": "<s> $A </s>", "eos": "$A </s>"}.get(kind)
        if single is not None:
            special = [("<s>", 1), ("</s>", 0)]
            library.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
        library.save(str(folder / "tokenizer.json"))
        config = {"eos_token": "</s>", "bos_token": None if kind == "no bos" else "<s>"}
        config["add_bos_token"] = kind == "ignored"  # with a tokenizer.json nobody reads it
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    model = network(vocab_size=vocabulary.vocab_size)
    save_model(model, folder, eos_id=vocabulary.eos_id)
    return folder


ADDING_NOTHING = ("nothing", "no bos", "ignored", "model without bos", "two files")


@pytest.mark.parametrize("kind", [*ADDING_NOTHING, "bos", "model", "two files with bos"])
def test_a_folder_keeps_its_own_rule(kind: str, tmp_path: Path) -> None:
    folder = stock_folder(kind, tmp_path)
    tokenizer = Tokenizer.load(folder)
    assert (tokenizer.start_id is None) == (kind in ADDING_NOTHING)
    assert_prompts_agree(folder)
    again = saved(tokenizer, tmp_path / "again")
    assert_prompts_agree(again)
    assert Tokenizer.load(again).encode_prompt("fox") == tokenizer.encode_prompt("fox")
    assert Tokenizer.load(again).bos_id == tokenizer.bos_id
    stock = [transformers.AutoTokenizer.from_pretrained(place) for place in (folder, again)]
    assert stock[0]("fox")["input_ids"] == stock[1]("fox")["input_ids"]
    assert stock[0].bos_token == stock[1].bos_token


@pytest.mark.parametrize("kind", ["bos and eos", "eos"])
def test_what_a_folder_appends_to_a_prompt_is_left_out(kind: str, tmp_path: Path) -> None:
    folder = stock_folder(kind, tmp_path)
    tokenizer = Tokenizer.load(folder)
    start = [1] if kind.startswith("bos") else []
    assert tokenizer.encode_prompt("fox") == [*start, *tokenizer.encode("fox")]
    assert_prompts_agree(saved(tokenizer, tmp_path / "again"))


@pytest.mark.parametrize("ends", [[0, 3], 3, None])
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_an_answer_ends_where_transformers_ends_it(ends: Any, file: str, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXT, 290, ("</s>", "<s>", "<|pad|>", "<|eot|>"))
    folder = saved(tokenizer, tmp_path)
    generation = folder / "generation_config.json"
    config = json.loads((folder / "config.json").read_text())
    if file == "config.json":
        generation.unlink()
        (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": ends}))
    else:
        generation.write_text(json.dumps({"eos_token_id": ends}))
        (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": [0, 2]}))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    theirs = model.generation_config.eos_token_id
    theirs = theirs if isinstance(theirs, list) else [] if theirs is None else [theirs]
    found = Tokenizer.load(folder)
    if ends is not None:
        assert set(found.stop_ids) == {found.eos_id, *theirs}
    again = saved(found, tmp_path / "again")
    assert Tokenizer.load(again).stop_ids == found.stop_ids


def test_chat_ends_with_the_template_s_own_end_of_turn(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXT, 290)
    folder = saved(tokenizer, tmp_path)
    (folder / "chat_template.jinja").write_text(CHATML)
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.stop_ids == (0,)
    generator = load_generator(folder)
    talk = TurnConversation(generator, tokenizer, template_for(tokenizer), greedy(max_new_tokens=8))
    assert set(talk.generator.tokenizer.stop_ids) == {0, tokenizer.id_of("<|im_end|>")}
    assert generator.tokenizer.stop_ids == (0,)  # generate ends where transformers does
