"""BOS and EOS stand in an example where its template wrote them, and nowhere else.

A tokenizer that adds them and a template that writes them gave other trainers two of each: the model then sees at
training what it never sees when it is asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as LibraryTokenizer
from tokenizers import processors

from linnet.data.conversations.reading import collect
from linnet.data.conversations.rendering import Renderer
from linnet.data.conversations.settings import ChatSettings
from linnet.data.packing import PackedExamples
from linnet.infer import SamplingSettings
from linnet.infer.conversation import TurnConversation
from linnet.text import Tokenizer, train_tokenizer
from linnet.text.chat_tokens import chatting, template_for

BOS, EOS = "<s>", "</s>"
LLAMA2 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
TALK = [
    {"role": "user", "content": "Who lives in the mill?"},
    {"role": "assistant", "content": "A fox."},
    {"role": "user", "content": f"Only a fox? {BOS} {EOS}"},
    {"role": "assistant", "content": "And a bee."},
]


@pytest.fixture(params=["adds both", "adds none"])
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Tokenizer:
    """As stock folders come: some put BOS and EOS around every text by themselves."""
    made = train_tokenizer(["who lives in the old mill? a fox and a bee"] * 50, 280, specials=(EOS, BOS))
    Tokenizer(LibraryTokenizer.from_str(made.to_json()), "stock", 0, 1).save(tmp_path)
    if request.param == "adds both":
        library = LibraryTokenizer.from_file(str(tmp_path / "tokenizer.json"))
        library.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A {EOS}", special_tokens=[(BOS, 1), (EOS, 0)]
        )
        library.save(str(tmp_path / "tokenizer.json"))
        assert library.encode("fox").ids[:: len(library.encode("fox").ids) - 1] == [1, 0]
    (tmp_path / "chat_template.jinja").write_text(LLAMA2)
    found = Tokenizer.load(tmp_path)
    assert (found.eos_id, found.bos_id) == (0, 1)
    return found


def renderer(tokenizer: Tokenizer) -> Renderer:
    return Renderer(tokenizer, template_for(tokenizer), 200, ChatSettings())


def items(kind: Any, *rows: dict[str, Any]) -> Any:
    return collect(rows, kind, "").items


def counts(tokenizer: Tokenizer, ids: Any) -> tuple[int, int]:
    """How many BOS, how many EOS."""
    found = np.asarray(ids)
    return int((found == tokenizer.bos_id).sum()), int((found == tokenizer.eos_id).sum())


def test_a_conversation_has_one_bos_and_one_eos_an_answer(tokenizer: Tokenizer) -> None:
    (example,) = renderer(tokenizer).conversations(items("conversation", {"messages": TALK}))
    assert counts(tokenizer, example.tokens) == (1, 2)
    assert counts(tokenizer, example.tokens[example.learned]) == (0, 2)
    assert example.tokens[0] == tokenizer.bos_id
    text = tokenizer.decode(example.tokens.tolist(), skip_special=False)
    assert text == template_for(tokenizer).render(TALK, False)


def test_answers_of_a_pair_and_prompts_too(tokenizer: Tokenizer) -> None:
    made = renderer(tokenizer)
    pair = made.pairs(
        items("pair", {"prompt": TALK[0]["content"], "chosen": "A fox.", "rejected": f"No. {EOS}"})
    )
    assert [counts(tokenizer, example.tokens) for example in pair] == [(1, 1), (1, 1)]
    (problem,) = made.problems(items("problem", {"question": "1 + 1?", "answer": "2"}))
    assert counts(tokenizer, problem.ids) == (1, 0)
    assert problem.ids[0] == tokenizer.bos_id


def test_packing_adds_none(tokenizer: Tokenizer) -> None:
    rows = [{"messages": [{"role": "user", "content": f"{n}?"}, *TALK[1:]]} for n in range(12)]
    examples = renderer(tokenizer).conversations(items("conversation", *rows))
    packed = PackedExamples(examples, 200, seed=0, pad_id=tokenizer.pad_id or 5)
    batch = packed.batch(np.arange(packed.first(1)))
    # An example's last token is a target only: of its two EOS one is read, and both are learned.
    assert counts(tokenizer, batch.tokens) == (12, 12)
    assert counts(tokenizer, batch.targets) == (0, 24)


def test_what_a_model_is_asked_is_what_it_was_trained_on(tokenizer: Tokenizer) -> None:
    """Turn by turn, as `chat` asks; the model's own end of turn is written by the template, once."""
    asked: list[list[int]] = []

    class Recorder:
        model = type("Model", (), {"spec": type("Spec", (), {"max_position_embeddings": 512})})

        def with_tokenizer(self, tokenizer: Tokenizer) -> Any:
            return self

        def stream(self, ids: list[int], settings: SamplingSettings) -> Any:
            asked.append(ids)
            yield "A fox."

    made: Any = Recorder()
    talk = TurnConversation(made, tokenizer, template_for(tokenizer), SamplingSettings(max_new_tokens=8))
    for turn in (TALK[0], TALK[2]):
        assert "".join(talk.say(turn["content"])) == "A fox."
    (example,) = renderer(tokenizer).conversations(items("conversation", {"messages": TALK}))
    assert [counts(tokenizer, ids) for ids in asked] == [(1, 0), (1, 1)]
    for ids in asked:
        assert example.tokens[: len(ids)].tolist() == ids


def test_the_saved_folder_adds_none_for_transformers_either(tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    chatting(tokenizer, template_for(tokenizer)).save(tmp_path / "saved")
    stock = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    # A text begins with BOS where the folder's rule said so, and a conversation with the template's alone.
    assert counts(tokenizer, stock("A fox.")["input_ids"]) == (int(tokenizer.start_id is not None), 0)
    talk = [{**turn, "content": turn["content"].split(" <")[0]} for turn in TALK]
    ids = stock.apply_chat_template(talk, return_dict=True)["input_ids"]
    assert counts(tokenizer, ids) == (1, 2)
    (example,) = renderer(tokenizer).conversations(items("conversation", {"messages": talk}))
    assert example.tokens.tolist() == ids
