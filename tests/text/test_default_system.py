"""The system turn of training is in the saved template, so that every tool asks with it; transformers is the oracle."""

from __future__ import annotations

from typing import Any

import pytest

from linnet.text.chat_template import CHATML, PLAIN, ChatTemplate

NAMES = {"eos_token": "<E>", "bos_token": "<B>"}
ASKED = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Ho"},
    {"role": "user", "content": "?"},
]
TEMPLATES = {
    "chatml": CHATML,
    "plain": PLAIN,
    "white space first": "\n  {% for m in messages %}\n{{ m.role }}: {{ m.content }}\n{% endfor %}",
    "a default of its own": "{% if messages[0].role != 'system' %}You are Bob.{% endif %}" + CHATML,
    "sets messages": "{% set messages = messages[0:] %}" + CHATML,
}
SYSTEMS = ("You are Pip.", "It's \\n {{ messages }} {% endif %}\n\t100 %} 'é' 😀", "")


def theirs(source: str, messages: list[dict[str, str]]) -> str:
    utils: Any = pytest.importorskip("transformers.utils.chat_template_utils")
    return utils.render_jinja_template([messages], chat_template=source, add_generation_prompt=True, **NAMES)[
        0
    ][0]


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("kind", TEMPLATES)
def test_without_a_system_turn_it_is_the_one_of_training(kind: str, system: str) -> None:
    plain = ChatTemplate(TEMPLATES[kind], NAMES, "here")
    saved = plain.with_system("an earlier one").with_system(system)
    wanted = plain.render([{"role": "system", "content": system}, *ASKED])
    assert saved.render(ASKED) == wanted
    assert theirs(saved.source, ASKED) == wanted
    assert saved.has_generation == plain.has_generation


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_system_turn_that_is_given_counts(kind: str) -> None:
    plain = ChatTemplate(TEMPLATES[kind], NAMES, "here")
    given = [{"role": "system", "content": "Be brief."}, *ASKED]
    assert plain.with_system("You are Pip.").render(given) == plain.render(given)
    assert theirs(plain.with_system("You are Pip.").source, given) == plain.render(given)
