"""Why this exists: the world's sentences are written as templates with choices inside choices, so that a few
hundred lines of prose give millions of different, grammatical documents. This is the small language in which
they are written, and the polish (a or an, capitals) that no template should have to think about.

    [big|small] ball     one of the choices; they nest and may be empty
    {hero}               a slot of the scene; {Hero} is the same with a capital
    {@scenery}           one line of a shared list of templates, not the same line twice in a document
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

from linnet.data.world.draw import Draw

Node = str | tuple[str, object]

_TOKEN = re.compile(r"[\[\]|]|\{[^}]*\}|[^\[\]|{}]+")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])")
_START = re.compile(r'(?:^|\n|[.!?] )"?[a-z]')


@cache
def _compile(template: str) -> tuple[Node, ...]:
    tokens = _TOKEN.findall(template)
    nodes, end = _sequence(tokens, 0)
    if end != len(tokens) or "".join(tokens) != template:
        raise ValueError(f"unbalanced template: {template}")
    return nodes


def _sequence(tokens: Sequence[str], at: int) -> tuple[tuple[Node, ...], int]:
    nodes: list[Node] = []
    while at < len(tokens) and tokens[at] not in ("|", "]"):
        token = tokens[at]
        at += 1
        if token == "[":
            options = []
            while True:
                option, at = _sequence(tokens, at)
                options.append(option)
                at += 1
                if tokens[at - 1] == "]":
                    break
            nodes.append(("choice", tuple(options)))
        elif token.startswith("{@"):
            nodes.append(("macro", token[2:-1]))
        elif token.startswith("{"):
            nodes.append(("slot", token[1:-1]))
        else:
            nodes.append(token)
    return tuple(nodes), at


class Scene:
    """What the slots mean in one document, and which shared lines it has used.

    A slot named in `full_names` shows its full form ("Milo the fox") the first time and the short one after;
    `{hero_known}` is for a template that introduces the hero in its own way.
    """

    def __init__(
        self,
        draw: Draw,
        slots: dict[str, str],
        macros: Mapping[str, Sequence[str]] | None = None,
        full_names: Mapping[str, str] | None = None,
    ) -> None:
        self.draw = draw
        self.slots = slots
        self.macros = macros or {}
        self.waiting = dict(full_names or {})
        self.used: set[str] = set()

    def write(self, template: str) -> str:
        """The template with every choice made and every slot filled, not yet polished."""
        out: list[str] = []
        self._expand(_compile(template), out)
        return "".join(out)

    def one_of(self, templates: Sequence[str]) -> str:
        """One of `templates`, written; one that the document has not used while there is such a one."""
        for _ in range(4):
            template = self.draw.pick(templates)
            if template not in self.used:
                break
        self.used.add(template)
        return self.write(template)

    def _expand(self, nodes: tuple[Node, ...], out: list[str]) -> None:
        for node in nodes:
            if isinstance(node, str):
                out.append(node)
            elif node[0] == "slot":
                out.append(self._slot(str(node[1])))
            elif node[0] == "choice":
                self._expand(self.draw.pick(node[1]), out)  # type: ignore[arg-type]
            else:
                out.append(self.one_of(self.macros[str(node[1])]))

    def _slot(self, name: str) -> str:
        lower = name[0].lower() + name[1:]
        if lower.endswith("_known"):
            lower = lower.removesuffix("_known")
            self.waiting.pop(lower, None)
        text = self.waiting.pop(lower, None) or self.slots[lower]
        return text[0].upper() + text[1:] if name[0].isupper() else text


def polish(text: str) -> str:
    """Put "an" where "a" stands before a vowel, and a capital where a sentence starts."""
    text = _ARTICLE.sub(r"\1n ", text)
    return _START.sub(lambda match: match.group()[:-1] + match.group()[-1].upper(), text)


def listed(items: Sequence[str]) -> str:
    """ "a, b and c"."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def sentence_case(text: str) -> str:
    """The text with its first letter a capital."""
    return text[0].upper() + text[1:]
