"""A folder's chat template is the one that transformers takes, and writes the tokens that the folder names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from linnet.config import RequestError
from linnet.text import Tokenizer, train_tokenizer
from linnet.text.chat_tokens import ChatEncoder, template_for
from linnet.text.template_source import with_names

TALK = [{"role": "user", "content": "Hi"}]
SAYS = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
NAMED = "\n{{ pad_token }}{{ cls_token }}{{ image_token }}{{ sep_token }}" + SAYS


def folder_with(folder: Path, template: str | None, **config: Any) -> Path:
    vocabulary = train_tokenizer(["the fox and the hare"] * 9, 270, ("</s>", "<s>", "<|a|>", "<|b|>"))
    (folder / "tokenizer.json").write_text(vocabulary.to_json())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "</s>", "bos_token": "<s>", **config})
    )
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def prompt(folder: Path) -> list[int]:
    tokenizer = Tokenizer.load(folder)
    return ChatEncoder(template_for(tokenizer), tokenizer).prompt(TALK)


def stock_prompt(folder: Path) -> list[int]:
    transformers = pytest.importorskip("transformers")
    stock = transformers.AutoTokenizer.from_pretrained(folder)
    found: list[int] = stock.apply_chat_template(TALK, add_generation_prompt=True, return_dict=True)[
        "input_ids"
    ]
    return found


@pytest.mark.parametrize(
    ("names", "begins"),
    [
        ({"pad_token": "</s>"}, "</s>"),
        ({"cls_token": "<|a|>", "sep_token": {"content": "<|b|>", "__type": "AddedToken"}}, "<|a|><|b|>"),
        ({"extra_special_tokens": {"image_token": "<|a|>"}}, "<|a|>"),
        ({"image_token": "<|b|>", "mask_token": "<|a|>", "cls_token": None}, "<|b|>"),
    ],
)
def test_a_template_gets_every_token_that_the_folder_names(
    names: dict[str, Any], begins: str, tmp_path: Path
) -> None:
    folder = folder_with(tmp_path, NAMED, **names)
    tokenizer = Tokenizer.load(folder)
    assert prompt(folder) == stock_prompt(folder)
    assert prompt(folder) == tokenizer.encode(f"\n{begins}Hi", allow_special=True)
    again = tmp_path / "again"
    tokenizer.save(again)
    assert prompt(again) == stock_prompt(again) == prompt(folder)
    assert Tokenizer.load(again).chat_template == tokenizer.chat_template


def test_a_template_that_uses_no_further_token_stays_as_it_is() -> None:
    assert with_names(SAYS, {"cls_token": "<|a|>"}) == SAYS


@pytest.mark.parametrize("beside", [None, "old" + SAYS])
def test_a_default_among_additional_templates_is_taken(beside: str | None, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, beside, chat_template="older" + SAYS)
    (folder / "additional_chat_templates").mkdir()
    for name in ("default", "rag"):
        (folder / "additional_chat_templates" / f"{name}.jinja").write_text(name + SAYS)
    assert prompt(folder) == stock_prompt(folder)
    assert Tokenizer.load(folder).chat_template == "default" + SAYS


@pytest.mark.parametrize("config", [{}, {"chat_template": SAYS}])
def test_additional_templates_without_a_default_are_refused(config: dict[str, Any], tmp_path: Path) -> None:
    folder = folder_with(tmp_path, None, **config)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text(SAYS)
    with pytest.raises(RequestError, match="named rag, and none default"):
        Tokenizer.load(folder)
    with pytest.raises(ValueError, match="no default"):
        stock_prompt(folder)
