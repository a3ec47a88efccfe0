"""Examples are what TRL makes of the same rows, answers whole, and what does not fit is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linnet.config import RequestError
from linnet.data.conversations.kinds import Conversation, Pair, Problem
from linnet.data.conversations.reading import collect, read
from linnet.data.conversations.rendering import Prompt, Renderer
from linnet.data.conversations.settings import ChatSettings
from linnet.data.packing import BucketedBatches, PackedExamples
from linnet.text import Tokenizer, train_tokenizer
from linnet.text.chat_template import CHATML, ChatTemplate
from linnet.text.chat_tokens import template_for

QWEN3_LIKE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORDS = "a fox lives in the old mill by the river and nobody knows how many years it has been there"


def conversation(*said: str, system: str = "") -> Conversation:
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]
    messages = [{"role": "system", "content": system}] * bool(system) + messages
    return only(messages=messages)


def only(**row: Any) -> Any:
    kind = "pair" if "chosen" in row else "problem" if "ground_truth" in row else "conversation"
    (item,) = read(row, kind)[1]  # type: ignore[arg-type]
    return item


def renderer(tokenizer: Tokenizer, max_length: int = 256, source: str = "", **settings: Any) -> Renderer:
    template = ChatTemplate(source, {}, "a template") if source else template_for(tokenizer)
    return Renderer(tokenizer, template, max_length, ChatSettings(**settings))


def learned_text(tokenizer: Tokenizer, example: Any) -> str:
    return tokenizer.decode(example.tokens[example.learned].tolist(), skip_special=False)


def whole_text(tokenizer: Tokenizer, example: Any) -> str:
    return tokenizer.decode(example.tokens.tolist(), skip_special=False)


@pytest.fixture(scope="module")
def trainers(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """TRL's trainers prepare their data when they are made."""
    trl, transformers = pytest.importorskip("trl"), pytest.importorskip("transformers")
    datasets = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("trl")
    tokenizer.with_chat(CHATML).save(folder)

    def prepared(kind: str, rows: list[dict[str, Any]], **options: Any) -> list[dict[str, Any]]:
        config = transformers.LlamaConfig(
            vocab_size=tokenizer.vocab_size, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=1, num_key_value_heads=1,
        )  # fmt: skip
        arguments = getattr(trl, f"{kind}Config")(
            output_dir=str(folder / "out"), use_cpu=True, bf16=False, report_to=[], **options
        )
        transformers.LlamaForCausalLM(config).save_pretrained(folder)
        made = getattr(trl, f"{kind}Trainer")(
            model=str(folder), args=arguments,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=transformers.AutoTokenizer.from_pretrained(folder),
        )  # fmt: skip
        return list(made.train_dataset)

    return prepared


def rows_of_messages() -> list[dict[str, Any]]:
    talks = [("Who lives?", "A fox."), ("One", "two", "three", "four\n"), ("x", " é 😀 ", "<b>", "\nlast")]
    return [{"messages": list(conversation(*talk, system="Be kind.").messages)} for talk in talks]


@pytest.mark.filterwarnings("ignore")
def test_examples_of_conversations_are_trls(tokenizer: Tokenizer, trainers: Any) -> None:
    rows = rows_of_messages()[:2]
    expected = trainers("SFT", rows, assistant_only_loss=True)
    made = renderer(tokenizer).conversations(collect(rows, "conversation", "").items)  # type: ignore[arg-type]
    for example, reference in zip(made, expected, strict=True):
        assert example.tokens.tolist() == reference["input_ids"]
        assert example.learned.tolist() == [label != -100 for label in reference["labels"]]


@pytest.mark.filterwarnings("ignore")
def test_examples_of_prompts_and_completions_are_trls(tokenizer: Tokenizer, trainers: Any) -> None:
    rows = [
        {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in rows_of_messages()[:2]
    ]
    expected = trainers("SFT", rows)
    made = renderer(tokenizer).conversations(collect(rows, "conversation", "").items)  # type: ignore[arg-type]
    for example, reference in zip(made, expected, strict=True):
        assert example.tokens.tolist() == reference["input_ids"]
        # TRL learns the line break after the end of the turn as well, where the model has stopped already.
        assert example.learned.tolist() == [*(label != -100 for label in reference["labels"][:-1]), False]
        assert reference["labels"][-1] != -100
        assert tokenizer.decode([int(example.tokens[-1])]) == "\n"


@pytest.mark.filterwarnings("ignore")
def test_examples_of_pairs_are_trls(tokenizer: Tokenizer, trainers: Any) -> None:
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Question {n}?"}],
            "chosen": [{"role": "assistant", "content": good}],
            "rejected": [{"role": "assistant", "content": "No. " * n}],
        }
        for n, good in enumerate(("Yes.", " So", "é 7", "1"), 1)
    ]
    expected = trainers("DPO", rows)
    items = collect(rows, "pair", "").items
    made = renderer(tokenizer).pairs(items)  # type: ignore[arg-type]
    assert len(made) == 2 * len(rows) == 2 * len(expected)
    for number, reference in enumerate(expected):
        prompt = reference["prompt_ids"]
        for example, side in zip(
            made[2 * number : 2 * number + 2], ("chosen_ids", "rejected_ids"), strict=True
        ):
            assert example.tokens.tolist() == [*prompt, *reference[side]]
            assert example.learned.tolist() == [False] * len(prompt) + [True] * (len(reference[side]) - 1) + [
                False
            ]


@pytest.mark.parametrize("answer", ["\n\nYes.", "\nYes.", " Yes.", "Yes."])
def test_a_chosen_answer_keeps_its_first_tokens(answer: str) -> None:
    """Also where they melt into the line break before them."""
    tokenizer = train_tokenizer(["user\nassistant\n\n\n Yes.\n\nNo.\n\n"] * 90, 270)
    made = renderer(tokenizer)
    pair = made.pair(only(prompt="Well?", chosen=answer, rejected="No."))
    assert pair is not None
    chosen, rejected = pair
    prompt = made.encoder.prompt([{"role": "user", "content": "Well?"}])
    assert learned_text(tokenizer, chosen) == f"{answer}<|im_end|>"
    assert learned_text(tokenizer, rejected) == "No.<|im_end|>"
    for example in pair:
        assert example.tokens[: len(prompt)].tolist() == prompt
        assert not example.learned[: len(prompt)].any()
    assert made.counts.parted == int(answer.startswith("\n"))


def test_answers_end_and_stay_whole_in_rows(tokenizer: Tokenizer) -> None:
    made = renderer(tokenizer)
    items = [conversation(WORDS[: 9 * n], f"Answer {n}", "And?", WORDS[n:]) for n in range(1, 9)]
    examples = made.conversations(items)
    packed = PackedExamples(examples, 256, seed=1, pad_id=tokenizer.eos_id)
    batch = packed.batch(np.arange(packed.first(1)))
    end = tokenizer.id_of("<|im_end|>")
    targets = batch.targets.numpy()
    assert (targets == end).sum() == 16
    assert batch.counted == sum(int(example.learned.sum()) for example in examples) == made.counts.learned
    spoken = [tokenizer.decode(row[row >= 0].tolist(), skip_special=False) for row in targets]
    answers = [text for talk in items for text in (talk.messages[1]["content"], talk.messages[3]["content"])]
    assert sorted("".join(spoken).split("<|im_end|>")[:-1]) == sorted(answers)
    assert made.counts.unlearned_eos == 0


def test_pairs_fit_bucketed_batches(tokenizer: Tokenizer) -> None:
    items = [only(prompt=f"Q{n}", chosen=WORDS[: 8 * n], rejected="No") for n in range(1, 7)]
    batches = BucketedBatches(renderer(tokenizer).pairs(items), 256, 1, 0, batch_size=2, group=2)
    assert len(batches[0]) == 4


def test_every_answer_by_itself_where_a_template_rewrites_history(tokenizer: Tokenizer) -> None:
    talk = conversation("One?", "Two", "Three?", "Four")
    with pytest.raises(RequestError, match="turns: each"):
        renderer(tokenizer, source=QWEN3_LIKE).conversation(talk)
    each = renderer(tokenizer, source=QWEN3_LIKE, turns="each")
    first, second = each.conversation(talk)
    assert learned_text(tokenizer, first) == "<think>\n\n</think>\n\nTwo<|im_end|>"
    assert whole_text(tokenizer, second).count("<think>") == 1
    assert learned_text(tokenizer, second) == "<think>\n\n</think>\n\nFour<|im_end|>"
    (last,) = renderer(tokenizer, source=QWEN3_LIKE, turns="last").conversation(talk)
    assert last.tokens.tolist() == second.tokens.tolist()
    prompt = each.encoder.prompt(talk.messages[:3])
    assert last.tokens[: len(prompt)].tolist() == prompt


def test_a_set_system_turn_opens_conversations_that_have_none(tokenizer: Tokenizer) -> None:
    made = renderer(tokenizer, system="Be kind.")
    (with_it,) = made.conversation(conversation("Hi", "Hello"))
    (own,) = made.conversation(conversation("Hi", "Hello", system="Be short."))
    assert whole_text(tokenizer, with_it).startswith(
        "<|endoftext|><|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi"
    )
    assert "Be kind." not in whole_text(tokenizer, own)
    assert learned_text(tokenizer, with_it) == "Hello<|im_end|>"
    problem = made.problem(only(prompt="2 + 2?", ground_truth="4"))
    assert problem is not None
    assert tokenizer.decode(problem.ids, skip_special=False).endswith(
        "2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert problem.problem.answer == "4"


def test_too_long_is_dropped_cut_or_refused_and_counted(tokenizer: Tokenizer) -> None:
    items = [
        conversation("Hi", "Hello"),
        conversation(f"{WORDS} {WORDS} Is that so?", "It is."),
        conversation("Hi", f"{WORDS} {WORDS}"),
        conversation("a", "b", WORDS, "d", "last?", "e", system="S"),
    ]
    free = renderer(tokenizer, 10_000)
    sizes = [example.places for example in free.conversations(items)]
    room = 40
    assert sizes[0] < room < min(sizes[1:])
    dropping = renderer(tokenizer, room, too_long="drop")
    assert len(dropping.conversations(items)) == 1
    assert (dropping.counts.too_long, dropping.counts.dropped, dropping.counts.longest) == (3, 3, max(sizes))
    cutting = renderer(tokenizer, room, too_long="cut")
    whole, short, talk = cutting.conversations(items)
    assert (cutting.counts.cut, cutting.counts.dropped) == (2, 1)  # an answer is never cut
    assert all(example.places <= room for example in (whole, short, talk))
    assert short.places > room - 6  # and no more is taken than must be
    assert "Is that so?<|im_end|>\n<|im_start|>assistant\nIt is.<|im_end|>" in whole_text(tokenizer, short)
    assert whole_text(tokenizer, talk).startswith(
        "<|endoftext|><|im_start|>system\nS<|im_end|>\n<|im_start|>user\nlast?"
    )
    assert learned_text(tokenizer, talk) == "e<|im_end|>"
    with pytest.raises(RequestError, match=rf"takes {sizes[1]} tokens, and {room} are allowed"):
        renderer(tokenizer, room, too_long="refuse").conversations(items)


def test_what_is_left_of_a_cut_conversation_is_learned_as_before(tokenizer: Tokenizer) -> None:
    turns = [*conversation(WORDS, "b", "c", "d").messages]
    turns[1] = {**turns[1], "weight": 0}
    (example,) = renderer(tokenizer, 24, too_long="cut").conversation(only(messages=turns))
    assert whole_text(tokenizer, example).startswith("<|endoftext|><|im_start|>user\nc<|im_end|>")
    assert learned_text(tokenizer, example) == "d<|im_end|>"


def test_a_prompt_is_cut_between_characters(tokenizer: Tokenizer) -> None:
    asked = "日本語の🙂naïve café — “quoted” 👩‍👩‍👧 текст " * 4
    for room in range(40, 100):
        made = renderer(tokenizer, room, too_long="cut")
        for item in (conversation(asked, "Yes."), only(prompt=asked, ground_truth="1")):
            found = made.problem(item) if isinstance(item, Problem) else made.conversation(item)[0]
            assert found is not None
            ids = found.ids if isinstance(found, Prompt) else found.tokens.tolist()
            assert "\ufffd" not in tokenizer.decode(ids)
        assert made.counts.cut == 2


def test_both_answers_of_a_pair_keep_the_same_cut_prompt(tokenizer: Tokenizer) -> None:
    pair = only(prompt=f"{WORDS} {WORDS} Well?", chosen="Yes, it is so.", rejected="No")
    cut = renderer(tokenizer, 48, too_long="cut").pair(pair)
    assert cut is not None
    chosen, rejected = cut
    begins = [int(example.learned.argmax()) for example in cut]
    assert chosen.tokens[: begins[0]].tolist() == rejected.tokens[: begins[1]].tolist()
    assert chosen.places <= 48
    assert learned_text(tokenizer, chosen) == "Yes, it is so.<|im_end|>"
    assert renderer(tokenizer, 48).pair(pair) is None
    problem = only(prompt=f"{WORDS} {WORDS} Well?", ground_truth="7")
    made = renderer(tokenizer, 30, too_long="cut").problem(problem)
    assert made is not None
    assert len(made.ids) <= 30
    assert "Well?" in tokenizer.decode(made.ids)
    assert renderer(tokenizer, 30).problem(problem) is None


def test_what_a_template_cannot_write_is_counted(tokenizer: Tokenizer) -> None:
    strict = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + CHATML
    )
    made = renderer(tokenizer, source=strict)
    called = {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}
    tools = only(messages=[{"role": "user", "content": "a"}, called, {"role": "tool", "content": "7"},
                           {"role": "assistant", "content": "7"}])  # fmt: skip
    items = [conversation("a", "b", system="s"), conversation("a", "b"), tools]
    assert len(made.conversations(items)) == 1
    reasons = list(made.counts.refused)
    assert "no system here" in reasons[0]
    assert "tool calls" in reasons[1]
    assert (
        made.problem(
            only(
                prompt=[{"role": "system", "content": "s"}, {"role": "user", "content": "q"}],
                ground_truth="4",
            )
        )
        is None
    )


def test_a_date_must_be_set_so_that_a_run_can_go_on_tomorrow(tokenizer: Tokenizer) -> None:
    dated = "{{ strftime_now('%Y-%m-%d') }}" + CHATML
    with pytest.raises(RequestError, match=r"chat\.today"):
        renderer(tokenizer, source=dated)
    (example,) = renderer(tokenizer, source=dated, today="2026-11-21").conversation(conversation("a", "b"))
    assert whole_text(tokenizer, example).startswith("2026-11-21<|im_start|>")
    with pytest.raises(ValueError, match="is no date"):
        ChatSettings(today="tomorrow")


def test_kinds_are_what_they_say() -> None:
    assert isinstance(only(prompt="a", chosen="b", rejected="c"), Pair)
    assert isinstance(only(prompt="a", ground_truth="b"), Problem)


def test_a_template_that_opens_with_the_answer_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    bare = (
        "{% for m in messages %}{% generation %}{{ m['content'] }}<|im_end|>{% endgeneration %}{% endfor %}"
    )
    with pytest.raises(RequestError, match="first token cannot be learned"):
        renderer(tokenizer, source=bare).conversation(only(messages=[{"role": "assistant", "content": "b"}]))
