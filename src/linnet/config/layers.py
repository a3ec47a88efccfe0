"""Values laid over one another: a shipped recipe, a file, then KEY=VALUE.

Every value remembers where it came from, so that a mistake can be told with its
file and line, or as the very words typed on the command line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from linnet.config.errors import RequestError

COMMAND_LINE = "command line, "


def dotted(path: tuple[str, ...]) -> str:
    """`("pretrain", "data", "num_workers")` → `pretrain.data.num_workers`."""
    return ".".join(path)


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 3e-4 is a number (YAML 1.1 asks for 3.0e-4); keys may stand once."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)$"),
    list("-+0123456789"),
)


@dataclass
class Layers:
    """A nested mapping of values, and the place each came from.

    passed: sections that a KEY=VALUE only leads through. Its place is theirs where nothing else names them.
    """

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[tuple[str, ...], str] = field(default_factory=dict)
    passed: frozenset[tuple[str, ...]] = frozenset()

    def origin(self, path: tuple[str, ...]) -> str:
        """Where the value at `path`, or the nearest section around it, was written."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return ""

    def over(self, other: Layers) -> Layers:
        """`other` laid over this: its values win, sections are merged key by key."""
        kept = other.passed & self.places.keys()
        above = {path: where for path, where in other.places.items() if path not in kept}
        return Layers(
            _merged(self.values, other.values), {**self.places, **above}, self.passed | other.passed - kept
        )


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _merged(result[key], value)
        else:
            result[key] = value
    return result


def from_text(text: str, name: str) -> Layers:
    """Read a YAML mapping, keeping the line of every key.

    Raises:
        RequestError: when the text is not YAML, not a mapping, or has a key twice.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        problem = getattr(error, "problem", None) or "not YAML"
        raise RequestError(
            f"this is not valid YAML ({problem})", where, "check indentation and colons"
        ) from None
    if node is None:
        return Layers({}, {(): name})
    if not isinstance(node, yaml.MappingNode):
        raise RequestError("a recipe is a mapping of keys to values", f"{name}:1", "begin with 'name: ...'")
    places: dict[tuple[str, ...], str] = {(): name}
    _record(node, (), name, places)
    return Layers(_Loader("").construct_document(node), places)


def _record(node: yaml.Node, path: tuple[str, ...], name: str, places: dict[tuple[str, ...], str]) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            word = str(key.value)
            where = f"{name}:{key.start_mark.line + 1}"
            if word in seen:
                raise RequestError(f"the key {dotted((*path, word))!r} stands twice", where, "keep one")
            seen.add(word)
            places[(*path, word)] = where
            _record(value, (*path, word), name, places)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            places[(*path, str(index))] = f"{name}:{value.start_mark.line + 1}"
            _record(value, (*path, str(index)), name, places)


def from_file(path: Path) -> Layers:
    """Read a YAML file.

    Raises:
        RequestError: when the file is missing, unreadable, or not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RequestError("this file is not text", str(path), "give a YAML recipe") from None
    except OSError as error:
        raise RequestError(f"cannot be read ({error.strerror})", str(path), "check the path") from None
    return from_text(text, str(path))


def from_overrides(words: list[str]) -> Layers:
    """Read KEY=VALUE words; the value is YAML, so `true`, `3e-4`, `[a, b]` and text all work.

    Raises:
        RequestError: when a word has no `=` or an empty key.
    """
    layers = Layers()
    for word in words:
        key, separator, text = word.partition("=")
        where = f"{COMMAND_LINE}{word!r}"
        if not separator or not re.fullmatch(r"[A-Za-z_][\w]*(\.[\w-]+)*", key):
            raise RequestError(
                "this is not KEY=VALUE", where, "write for example pretrain.learning_rate=3e-4"
            )
        try:
            value = yaml.load(text, Loader=_Loader) if text.strip() else None
        except yaml.YAMLError:
            value = text
        path = tuple(key.split("."))
        nested: Any = value
        for part in reversed(path):
            nested = {part: nested}
        upward = [path[:n] for n in range(1, len(path) + 1)]
        layers = layers.over(Layers(nested, dict.fromkeys(upward, where), frozenset(upward[:-1])))
    return layers
