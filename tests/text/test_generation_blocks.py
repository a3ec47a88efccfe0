"""What is learned by a template's generation blocks is what follows the prompt that asks for it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as LibraryTokenizer

from linnet.text import Tokenizer, train_tokenizer
from linnet.text.chat_template import CHATML, ChatTemplate
from linnet.text.chat_tokens import ChatEncoder

TEXT = ["A fox lives in the old mill by the river. Who lives there?\nUser: Assistant: system user\n"] * 60
NAMES = re.compile(r"<[|｜][^<>'\"\n{}]{1,30}[|｜]>|<(?:start|end)_of_turn>|<end_of_utterance>")
OPENED = CHATML.replace("'<|im_start|>assistant\\n'", "'<|im_start|>assistant\\n<think>'")
# TRL's templates of which a prompt opens thoughts that an answer without them does not have.
UNASKED = {
    "deepseek_r1_distill_training", "deepseekv3_training", "nemotron_3_5_lightning_training",
    "nemotron_3_nano_training", "nemotron_3_super_training", "nemotron_3_ultra_training",
}  # fmt: skip


def talk(thoughts: bool) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for number in ("one", "two"):
        said = {"role": "assistant", "content": f"Answer {number}"}
        said |= {"reasoning_content": f"Thought {number}"} if thoughts else {}
        turns += [{"role": "user", "content": f"Question {number}"}, said]
    return turns


def tokenizer_for(*sources: str) -> Tokenizer:
    """With the special tokens that these templates name."""
    names = dict.fromkeys(["<|endoftext|>", *(name for source in sources for name in NAMES.findall(source))])
    made = train_tokenizer(TEXT, 258 + len(names), specials=tuple(names))
    return Tokenizer(LibraryTokenizer.from_str(made.to_json()), "x", 0, 0)


def encoder(source: str, where: str = "a template", tokenizer: Tokenizer | None = None) -> ChatEncoder:
    special = dict.fromkeys(("bos_token", "eos_token"), "<|endoftext|>")
    return ChatEncoder(ChatTemplate(source, special, where), tokenizer or tokenizer_for(source))


def test_what_trls_training_templates_learn_is_what_is_asked() -> None:
    trl = pytest.importorskip("trl")
    files = sorted((Path(trl.__file__).parent / "chat_templates").glob("*_training.jinja"))
    assert len(files) > 20
    sources = {file: file.read_text(encoding="utf-8") for file in files}
    tokenizer = tokenizer_for(*sources.values())
    unasked = set()
    for file, source in sources.items():
        chat = encoder(source, file.name, tokenizer)
        chat.stop_ids()
        for thoughts in (False, True):
            turns = talk(thoughts)
            found = chat.learn(turns, [False, True, False, True])
            if not thoughts and found.unasked:
                assert not found.spans, "no half of them"
                unasked.add(file.stem)
            begins = {begin for begin, _ in found.spans}
            asked = [chat.prompt(turns[:turn]) for turn in (1, 3)]
            met = [prompt for prompt in asked if found.ids[: len(prompt)] == prompt and len(prompt) in begins]
            assert len(met) == 2 - found.unasked, (file.name, thoughts)
            for prompt in asked:  # nothing of a prompt is learned, though blocks may begin in it
                if prompt in met:
                    assert not found.learned[len(prompt) - 1], file.name
            said = chat.tokenizer.decode(
                [i for i, flag in zip(found.ids, found.learned, strict=True) if flag]
            )
            assert said.count("Answer") == len(met), (file.name, thoughts)
    assert unasked == UNASKED


def test_an_answer_whose_prompt_is_not_how_it_begins_is_not_learned() -> None:
    chat = encoder(OPENED)
    plain = chat.learn(talk(False), [False, True, False, True])
    assert (plain.unasked, plain.spans) == (2, [])
    one = talk(False)
    one[3]["content"] = "<think>so</think>Answer two"
    found = chat.learn(one, [False, True, False, True])
    assert found.unasked == 1
    (begin, end), = found.spans  # fmt: skip
    assert chat.tokenizer.decode(found.ids[begin:end], skip_special=False) == "so</think>Answer two<|im_end|>"
    assert found.ids[:begin] == chat.prompt(one[:3])
    assert replace(found, unasked=0) == chat.learn(one, [False, False, False, True])


def test_a_block_that_begins_after_the_prompt_is_extended_to_it() -> None:
    """What stands between the prompt and a block must be written by the model, so it is learned."""
    late = CHATML.replace("{%- generation -%}", "{{- 'So: ' -}}{%- generation -%}")
    chat = encoder(late)
    found = chat.learn(talk(False)[:2], [False, True])
    (begin, end), = found.spans  # fmt: skip
    assert chat.tokenizer.decode(found.ids[begin:end], skip_special=False) == "So: Answer one<|im_end|>"
    assert found.ids[:begin] == chat.prompt(talk(False)[:1])


def test_blocks_about_others_words_are_not_learned() -> None:
    everybody = (
        "{% for m in messages %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% endfor %}"
    )
    chat = encoder(everybody)
    found = chat.learn(talk(False), [False, True, False, True])
    assert [chat.tokenizer.decode(found.ids[a:b]) for a, b in found.spans] == ["Answer one", "Answer two"]


def test_a_greeting_that_nobody_asks_for_is_not_learned() -> None:
    wants_a_user = CHATML.replace(
        "{%- for message", "{{- '' if messages[0].role else '' }}{%- for message", 1
    )
    turns = [{"role": "assistant", "content": "Hello!"}, *talk(False)[:2]]
    found = encoder(wants_a_user).learn(turns, [True, False, True])
    assert (found.unasked, len(found.spans)) == (1, 1)
    assert encoder(CHATML).learn(turns, [True, False, True]).unasked == 0
