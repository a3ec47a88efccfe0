"""A chat template that says a system turn of its own where a conversation has none.

A model that was trained with a system turn in every conversation is asked with it wherever it goes: the template
is what transformers, vLLM and llama.cpp read from the folder.
"""

from __future__ import annotations

import re

_BEGIN = "{#- The system turn that this model was trained with, where a conversation has none -#}"
_END = "{%- endif %}\n"
_OURS = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
_ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def with_default_system(source: str, system: str) -> str:
    """The Jinja template `source` with `system` as the first turn of conversations that begin otherwise.

    One that was put there before is replaced. `source` begins on a line of its own, so that its white space is
    read as before.
    """
    return (
        f"{_BEGIN}{{%- if not messages or messages[0]['role'] != 'system' -%}}"
        f"{{%- set messages = [{{'role': 'system', 'content': {to_literal(system)}}}] + messages -%}}"
        f"{_END}{_OURS.sub('', source)}"
    )


def to_literal(text: str) -> str:
    """`text` as Jinja writes a text in a template."""
    return f"'{text.translate(_ESCAPES)}'"
