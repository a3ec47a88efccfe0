"""Tools in a row: what may be called, and what was called, out of the forms in which datasets write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from linnet.data.conversations.kinds import Tools, Unusable

TOOLS = ("tools", "functions")
"""Columns with what the assistant may call; the second is OpenAI's older one, without a tool's wrapping."""

_TURNS = ("messages", "conversations", "prompt", "completion", "chosen", "rejected", *TOOLS)


def tools_of(row: Mapping[str, Any]) -> Tools:
    """A row's tools as JSON schemas, of a list or of JSON text.

    Raises:
        Unusable: they are not a list of objects.
    """
    name = next((name for name in TOOLS if holds_tools(row.get(name))), None)
    if name is None:
        return ()
    value = from_json(row[name])
    value = [from_json(one) for one in value] if isinstance(value, (list, tuple)) else [value]
    objects = all(isinstance(one, Mapping) for one in value)
    if name == "tools" and not objects:
        raise Unusable("its tools are not a list of objects, nor JSON text of one")
    if name == "tools":
        return tuple(value)
    if not objects or not all("name" in one for one in value):
        return ()  # functions of another sense
    return tuple({"type": "function", "function": one} for one in value)


def holds_tools(value: Any) -> bool:
    """Whether a column of tools names any: JSON text of null or of an empty list names none."""
    return holds(from_json(value)) and not (isinstance(value, str) and value.strip() in ("", "null", "None"))


def calls_of(value: Any) -> list[Any]:
    """A turn's tool calls, of a list, of one call, or of JSON text.

    Raises:
        Unusable: they are not objects.
    """
    value = from_json(value)
    calls = [from_json(one) for one in value] if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(call, Mapping) for call in calls):
        raise Unusable("tool calls that are not objects, nor JSON text of them")
    return calls


def call_of(value: Any) -> list[Any]:
    """The older form of one call, an object with a name and arguments, as tool calls."""
    return [
        call if "function" in call else {"type": "function", "function": call} for call in calls_of(value)
    ]


def from_json(value: Any) -> Any:
    """What a JSON text says, if that is an object or a list; anything else as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def holds(value: Any) -> bool:
    """Whether a column or key says anything."""
    return value is not None and not (isinstance(value, (str, list, tuple, dict)) and len(value) == 0)


def without_alignment(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of an Arrow table whose turns and tools lack the nulls that align its structs.

    In a table every object of a column has the keys of all: {"city": "Rome"} beside {"hour": 9} comes back as
    {"city": "Rome", "hour": null}, an argument that no call had.
    """
    return {name: _bare(value) if name in _TURNS else value for name, value in row.items()}


def _bare(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _bare(inner) for key, inner in value.items() if inner is not None}
    return [_bare(inner) for inner in value] if isinstance(value, (list, tuple)) else value
