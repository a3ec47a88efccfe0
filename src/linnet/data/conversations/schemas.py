"""Which columns make a conversation, a pair or a problem, and how.

A row is recognised by the names of its columns that hold something, row by row: files whose rows come from
several datasets are read too, and a null counts as a column that is not there. Of several schemas that
fit, the first in `SCHEMAS` that can read the row is taken.

Texts that belong together are joined with a blank line. A context comes before its question, so that the
question stands next to the answer; Alpaca's `input` comes after its instruction, as Alpaca has it. A `history` of
questions and answers comes before both; its answers are learned too, as in LLaMA-Factory, whose column it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from linnet.data.conversations.columns import Row, first_of, named, opened, recalled, rest_of, texts_of
from linnet.data.conversations.kinds import (
    Conversation,
    Item,
    Kind,
    Pair,
    Problem,
    Turns,
    Unusable,
    said,
)
from linnet.data.conversations.tools import from_json, holds
from linnet.data.conversations.turns import (
    answer_of,
    learned_after,
    prompt_of,
    spoken,
    text_of,
    transcript,
    turn,
    turns_of,
)

_QUESTION = ("question", "prompt", "problem", "query")
_CONTEXT = ("context", "passage", "input")
_REPLY = ("completion", "response", "output")
_ANSWER = ("best_answer", "solution", "answer", *_REPLY)
_TRUTH = ("ground_truth", "final_answer", "final", "answer", "solution", "target", "best_answer")
_CHECK = ("test", "tests", "test_list", "label")
_TRUE, _FALSE = ("correct_answers", "correct"), ("incorrect_answers", "incorrect")


@dataclass(frozen=True)
class Schema:
    """Columns that make a kind of item.

    columns: groups of names; a row needs one of each group. convert: a row to its items.
    """

    name: str
    kind: Kind
    columns: tuple[tuple[str, ...], ...]
    convert: Callable[[Row], Sequence[Item]]

    def fits(self, names: frozenset[str]) -> bool:
        """Whether columns of these names make it."""
        return all(not names.isdisjoint(group) for group in self.columns)


def held(row: Row) -> frozenset[str]:
    """The names of a row's columns that hold something."""
    return frozenset(name for name, value in row.items() if value is not None)


@functools.cache
def recognise(names: frozenset[str]) -> dict[Kind, tuple[Schema, ...]]:
    """For each kind that columns of these names give, the schemas that may read it, the likeliest first."""
    kinds = dict.fromkeys(schema.kind for schema in SCHEMAS if schema.fits(names))
    return {kind: tuple(s for s in SCHEMAS if s.kind == kind and s.fits(names)) for kind in kinds}


def _conversation(messages: Turns, learned: Sequence[bool], columns: Mapping[str, Any]) -> list[Item]:
    """A conversation up to its last learned turn: what is said after it teaches nothing."""
    last = max((place for place, flag in enumerate(learned) if flag), default=None)
    if last is None:
        raise Unusable("no turn of the assistant")
    return [Conversation(messages[: last + 1], tuple(learned[: last + 1]), columns)]


def _refuse_label(row: Row) -> None:
    """Some sets mark with False what people did not like; a number may be one of many classes (labels.py)."""
    if row.get("label") is False:
        raise Unusable("labelled as no answer (label False)")


def _answered(row: Row, prompt: Turns, answer: Turns, used: Sequence[str]) -> list[Item]:
    _refuse_label(row)
    turns, flags = recalled(row, opened(row, prompt))
    learned = (*flags, *learned_after((), answer))
    return _conversation((*turns, *answer), learned, rest_of(row, used))


def _messages(name: str) -> Callable[[Row], list[Item]]:
    def convert(row: Row) -> list[Item]:
        messages, learned = turns_of(row[name])
        turns = opened(row, messages)
        shift = (False,) * (len(turns) - len(messages))
        return _conversation(turns, (*shift, *learned), rest_of(row, (name,)))

    return convert


def _instruction(row: Row) -> list[Item]:
    """Alpaca and Dolly: an instruction, perhaps with what it is about, and what was answered."""
    prompt, used = _instructed(row)
    reply, name = named(row, _REPLY)
    return _answered(row, prompt, answer_of(reply, name), (*used, name))


def _instructed(row: Row) -> tuple[Turns, tuple[str, ...]]:
    about = ("input", "context")
    text = "\n\n".join([text_of(row["instruction"], "instruction"), *texts_of(row, about)])
    return (turn("user", text),), ("instruction", *about)


def _completion(row: Row) -> list[Item]:
    prompt, used = _asked(row, ("prompt",))
    reply, name = named(row, _REPLY)
    return _answered(row, prompt, answer_of(reply, name), (*used, name))


def _asked(row: Row, names: Sequence[str] = _QUESTION) -> tuple[Turns, tuple[str, ...]]:
    """What is asked, its context before it; and the columns used."""
    value, name = named(row, names)
    prompt = prompt_of(value, name)
    context = [text for text in texts_of(row, _CONTEXT) if text != value]
    if context:
        place = max((n for n, one in enumerate(prompt) if one["role"] == "user"), default=0)
        asked = {**prompt[place], "content": "\n\n".join([*context, str(prompt[place]["content"])])}
        prompt = (*prompt[:place], asked, *prompt[place + 1 :])
    return prompt, (name, *_CONTEXT)


def _question(row: Row) -> list[Item]:
    prompt, used = _asked(row)
    answer, name = named(row, _ANSWER)
    return _answered(row, prompt, answer_of(answer, name), (*used, name))


def _letters(row: Row) -> tuple[Turns, str, str]:
    """A question with its choices, lettered; the right letter and the right choice."""
    question, name = named(row, _QUESTION)
    choices, place = from_json(row["choices"]), row["answer"]
    if isinstance(choices, Mapping):  # as ARC has them: {"label": [...], "text": [...]}
        choices = choices.get("text")
    if not isinstance(choices, (list, tuple)) or not 2 <= len(choices) <= 26:
        raise Unusable("choices are not a list")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(choices)]
    if isinstance(place, str) and len(place) == 1 and place.upper() in letters:
        place = letters.index(place.upper())
    elif isinstance(place, str) and place in choices:
        place = list(choices).index(place)
    if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < len(choices):
        raise Unusable("the answer is none of the choices")
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(letters, choices, strict=True))
    asked = "\n\n".join([*texts_of(row, _CONTEXT), text_of(question, name)])
    return (
        (turn("user", f"{asked}\n{listed}"),),
        letters[place],
        str(choices[place]),
    )


def _choices(row: Row) -> list[Item]:
    prompt, letter, choice = _letters(row)
    answer = (turn("assistant", f"{letter}. {choice}"),)
    return _answered({**row, "answer": letter}, prompt, answer, (*_QUESTION, *_CONTEXT, "choices"))


def _choice_problem(row: Row) -> list[Item]:
    prompt, letter, _ = _letters(row)
    return [Problem(recalled(row, opened(row, prompt))[0], letter, rest_of(row, _QUESTION))]


def _problem(row: Row) -> list[Item]:
    if holds(from_json(row.get("choices"))):
        raise Unusable("it has choices, and no answer that is one of them")
    prompt, used = _asked(row)
    name = first_of(row, _TRUTH)
    if name:
        _refuse_label(row)
    prompt = recalled(row, opened(row, prompt))[0]
    answer = text_of(row[name], name) if name and isinstance(row[name], (str, int, float)) else None
    return [Problem(prompt, answer, rest_of(row, used))]


def _said_problem(row: Row) -> list[Item]:
    """A problem in the form of messages, perhaps with a model answer at their end."""
    messages, _ = turns_of(row["messages"])
    while messages and messages[-1]["role"] == "assistant":
        messages = messages[:-1]
    if not messages:
        raise Unusable("no prompt")
    answer, name = named(row, _TRUTH)
    return [Problem(opened(row, messages), text_of(answer, name), rest_of(row, ("messages",)))]


def _sides(row: Row) -> tuple[Turns, Turns, Turns, tuple[str, ...]]:
    """Prompt, chosen and rejected, and the columns used; a prompt in both answers is their common beginning."""
    given = first_of(row, (*_QUESTION, "instruction"))
    both: list[Turns] = []
    for name in ("chosen", "rejected"):
        value = spoken(row[name])
        dialogue = transcript(value) if isinstance(value, str) else None
        if dialogue is None and isinstance(value, str) and given is None:
            raise Unusable("no prompt: chosen and rejected are neither dialogues nor beside one")
        both.append(dialogue or answer_of(value, name))
    chosen, rejected = both
    if all(turns and turns[0]["role"] != "assistant" for turns in both) or given is None:
        shared = 0
        while shared < min(map(len, both)) and said(chosen[shared]) == said(rejected[shared]):
            shared += 1
        return chosen[:shared], chosen[shared:], rejected[shared:], (given or "",)
    prompt, used = _instructed(row) if given == "instruction" else _asked(row)
    return prompt, chosen, rejected, used


def _pair(row: Row) -> list[Item]:
    prompt, chosen, rejected, used = _sides(row)
    if [*map(said, chosen)] == [*map(said, rejected)]:
        raise Unusable("chosen and rejected are the same")
    for answer in (chosen, rejected):
        if not answer or not (answer[0]["content"].strip() or "tool_calls" in answer[0]):
            raise Unusable("one of the answers is empty")
        if answer[0]["role"] != "assistant" or answer[-1]["role"] != "assistant":
            raise Unusable("an answer is not the assistant's")
    if not prompt:
        raise Unusable("no prompt")
    gone = ("chosen", "rejected", "prompt", "messages", *used)
    return [Pair(recalled(row, opened(row, prompt))[0], chosen, rejected, rest_of(row, gone))]


def _chosen(row: Row) -> list[Item]:
    (pair,) = _pair(row)
    assert isinstance(pair, Pair)
    learned = learned_after(pair.prompt, pair.chosen)
    return _conversation((*pair.prompt, *pair.chosen), learned, pair.columns)


def _listed(row: Row, names: Sequence[str]) -> list[Any]:
    """The answers of a column that holds several, or one."""
    value = from_json(named(row, names)[0])
    answers = value if isinstance(value, (list, tuple)) else [value]
    return [one for one in answers if one is not None and str(one).strip()]


def _truthful(row: Row) -> list[Item]:
    """Each wrong answer beside a right one; the right ones are taken in turn."""
    prompt, used = _asked(row)
    prompt = recalled(row, opened(row, prompt))[0]
    right, wrong = (_listed(row, names) for names in (_TRUE, _FALSE))
    if not right or not wrong:
        raise Unusable("no right or no wrong answer")
    columns = rest_of(row, (*used, *_TRUE, *_FALSE))
    return [
        Pair(prompt, answer_of(right[place % len(right)], "correct"), answer_of(text, "incorrect"), columns)
        for place, text in enumerate(wrong)
    ]


SCHEMAS: tuple[Schema, ...] = (
    Schema("messages", "conversation", (("messages",),), _messages("messages")),
    Schema("conversations", "conversation", (("conversations",),), _messages("conversations")),
    Schema("instruction/output", "conversation", (("instruction",), _REPLY), _instruction),
    Schema("prompt/completion", "conversation", (("prompt",), _REPLY), _completion),
    Schema("question/choices", "conversation", (_QUESTION, ("choices",), ("answer",)), _choices),
    Schema("question/answer", "conversation", (_QUESTION, _ANSWER), _question),
    Schema("chosen/rejected", "conversation", (("chosen",), ("rejected",)), _chosen),
    Schema("chosen/rejected", "pair", (("chosen",), ("rejected",)), _pair),
    Schema("correct/incorrect", "pair", (_QUESTION, _TRUE, _FALSE), _truthful),
    Schema("question/choices", "problem", (_QUESTION, ("choices",), ("answer",)), _choice_problem),
    Schema("question/answer", "problem", (_QUESTION, (*_TRUTH, *_CHECK)), _problem),
    Schema("messages/answer", "problem", (("messages",), _TRUTH), _said_problem),
)
"""Every schema, those of one kind by how much they say of it."""
