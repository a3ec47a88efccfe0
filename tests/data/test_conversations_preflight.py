"""What is wrong with a stage's data is seen, counted and refused before its first step."""

from __future__ import annotations

from typing import Any

import pytest

from linnet.config import RequestError
from linnet.data.conversations.kinds import Conversation
from linnet.data.conversations.preflight import Preflight, look_over, masked
from linnet.data.conversations.reading import collect
from linnet.data.conversations.rendering import Renderer
from linnet.data.conversations.settings import ChatSettings, PreflightSettings
from linnet.data.conversations.splitting import split
from linnet.text import Tokenizer
from linnet.text.chat_template import CHATML, ChatTemplate

UNMARKED = CHATML.replace(
    "{{- message['content'] + '<|im_end|>' -}}{%- endgeneration -%}",
    "{%- endgeneration -%}{{- message['content'] + '<|im_end|>' -}}",
)
ENDLESS = CHATML.replace(
    "{{- message['content'] + '<|im_end|>' -}}{%- endgeneration -%}",
    "{{- message['content'] -}}{%- endgeneration -%}{{- '<|im_end|>' -}}",
)
ROWS = [{"prompt": f"Question {n}?", "completion": f"Answer {n}."} for n in range(100)]


def flown(
    tokenizer: Tokenizer, rows: list[dict[str, Any]], source: str = CHATML, length: int = 100, share: float = 0.1,
    validation: list[Any] | None = None,
) -> Preflight:  # fmt: skip
    gathered = collect(rows, "conversation", "rows.jsonl")
    train, held = split(gathered.items, share)
    made = Renderer(tokenizer, ChatTemplate(source, {}, "a template"), length, ChatSettings())
    conversations = [item for item in train if isinstance(item, Conversation)]
    examples = made.conversations(conversations)
    return look_over([gathered], made, train, examples, held if validation is None else validation)


def test_good_data_passes_and_is_shown(tokenizer: Tokenizer) -> None:
    found = flown(tokenizer, ROWS)
    found.check(PreflightSettings())
    assert set(found.shares.values()) == {0.0}
    text = found.text(tokenizer, colour=False)
    assert text.count("⟦Answer ") == 3
    assert text.count("<|im_end|>⟧") == 3
    assert "rows.jsonl: 100 rows, 100 conversations (prompt/completion 100)" in text
    assert f"{found.counts.examples} examples of {found.items}, {found.validation} held out" in text
    assert found.items + found.validation == 100
    coloured = found.text(tokenizer, colour=True)
    assert "\x1b[32mAnswer " in coloured
    assert "\x1b[2m<|im_start|>user" in coloured
    assert found.facts()["shares"] == found.shares


@pytest.mark.parametrize(
    ("what", "arguments", "said"),
    [
        ("unusable", {"rows": [*ROWS[:60], *[{"prompt": "x", "completion": ""}] * 40]},
         r"40\.0% of rows cannot be used, and 20\.0% are allowed \(completion is empty 40\)"),
        ("empty_masks", {"rows": ROWS, "source": UNMARKED}, r"100\.0% of examples have nothing to learn"),
        ("unlearned_eos", {"rows": ROWS, "source": ENDLESS}, r"100\.0% of examples have an answer whose end is not"),
        ("too_long", {"rows": [*ROWS[:50], *[{**row, "completion": "word " * 90} for row in ROWS[50:]]]}, "do not fit"),
        ("duplicates", {"rows": ROWS[:30] * 3}, r"66\.7% of the data are exact duplicates"),
    ],
)  # fmt: skip
def test_each_fault_is_counted_and_refused(
    tokenizer: Tokenizer, what: str, arguments: dict[str, Any], said: str
) -> None:
    found = flown(tokenizer, **arguments)
    assert found.shares[what] > 0.3
    assert all(share == 0 for name, share in found.shares.items() if name != what)
    with pytest.raises(RequestError, match=rf"{said}.*raise preflight\.max_{what}"):
        found.check(PreflightSettings())
    if what != "empty_masks":
        found.check(PreflightSettings.model_validate({f"max_{what}": 1.0}))
    else:  # however much is allowed, there must be something
        with pytest.raises(RequestError, match="no example is left"):
            found.check(PreflightSettings(max_empty_masks=1.0))


def test_validation_that_stands_in_training_is_refused(tokenizer: Tokenizer) -> None:
    items = collect(ROWS, "conversation", "x").items
    other = collect([{"prompt": "Question 3?", "completion": "Else."}], "conversation", "x").items
    found = flown(tokenizer, ROWS, share=0.0, validation=[*items[:3], *other])
    assert (found.overlap, found.shared_questions) == (3, 4)
    with pytest.raises(RequestError, match=r"75\.0% of validation stands in training"):
        found.check(PreflightSettings())
    assert "4 questions of validation are asked in training" in found.text(tokenizer, False)


def test_a_shown_text_cannot_steer_a_terminal_and_long_ones_show_what_is_learned(
    tokenizer: Tokenizer,
) -> None:
    made = Renderer(tokenizer, ChatTemplate(CHATML, {}, "a template"), 5000)
    rows = [{"prompt": "long " * 900, "completion": "\x1b[31m\x07 red"}]
    items = collect(rows, "conversation", "x").items
    (example,) = made.conversations([item for item in items if isinstance(item, Conversation)])
    text = masked(example, tokenizer, colour=False)
    assert "\x1b" not in text
    assert text.startswith("…")
    assert "⟦\\x1b[31m\\x07 red<|im_end|>⟧" in text
