"""A conversation as tokens, and which of them the assistant is to learn.

The one place where a chat template's text becomes tokens, for training and for talking alike: what a
model is asked later is, token for token, what it was trained on.

- Special tokens are those that the template wrote. The same names in a message are text.
- Nothing is added: a template that wants BOS writes it, and it stands there once.
- Where a learned turn begins, the prompt ends. At inference the prompt is encoded before the answer exists;
  if the tokens of the whole text run across that place (an answer that begins with a line break), the
  text is encoded in two parts there, so the prompt's tokens always are the beginning of the example's.
- A learned turn ends with its end-of-turn token, that included; what a template writes after it
  belongs to nobody.

What is the assistant's is said by the template's `{% generation %}` blocks where it has them. Otherwise the
conversation is rendered up to each turn: what comes after the generation prompt is the assistant's. Some
templates write earlier turns otherwise once later ones follow (Qwen3 takes thoughts away), and then
there is no such place; that is found out and refused, never guessed. The blocks are held against the prompts
too (blocks.py): an answer whose prompt is not how the conversation begins is not learned.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from linnet.config import RequestError
from linnet.text.blocks import learned_blocks
from linnet.text.chat_template import CHATML, NAMED, PLAIN, ChatTemplate, RefusedByTemplate
from linnet.text.prefixes import Prefixes
from linnet.text.template_inputs import BROKEN, CLOSE, OPEN, SpecialNames, Tools
from linnet.text.template_source import read_source
from linnet.text.tokenizer import Tokenizer
from linnet.text.train import IM_END, IM_START

Turns = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ChatTokens:
    """A conversation's tokens: ids [n], learned [n], and the spans [begin, end) of the learned turns.

    parted: places where the text was encoded in two parts. unasked: turns that were to be learned and are not,
    because their prompt is not how the conversation begins.
    """

    ids: list[int]
    learned: list[bool]
    spans: list[tuple[int, int]]
    parted: int = 0
    unasked: int = 0


def _talk(said: str, *before: dict[str, str], **further: str) -> Turns:
    return [*before, {"role": "user", "content": said}, {"role": "assistant", "content": said, **further}]


_SENTENCE = "The quick brown fox jumps over the lazy dog, and this is it: 1 + 2 = 3."
_TALKS = (
    _talk("b"),
    _talk("b", reasoning_content="c"),  # some templates ask only for answers with thoughts
    _talk("b", {"role": "system", "content": "s"}),
    _talk(_SENTENCE),  # some look for something in what is said
    _talk(_SENTENCE, {"role": "system", "content": _SENTENCE}, reasoning_content=_SENTENCE),
)
"""Questions and answers that show how a template ends a turn; the first that it can write is taken."""


class ChatEncoder:
    """A template and a tokenizer together.

    Args:
        template: the conversation's form.
        tokenizer: special tokens are read by its names.
    """

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self.template, self.tokenizer = template, tokenizer
        added = [token for token in json.loads(tokenizer.to_json())["added_tokens"] if token["special"]]
        # A name of one character cannot be broken up; nobody has one.
        self._special = {token["content"]: token for token in added if len(token["content"]) > 1}
        longest_first = sorted(self._special, key=len, reverse=True)
        names = "|".join(map(re.escape, longest_first)) or "(?!)"
        self._names = re.compile(names)
        self._special_names = SpecialNames(self._special)
        self._signs = re.compile(f"(?P<name>{names})|[{OPEN}{CLOSE}]")
        self._line = tokenizer.encode("\n")
        probe = (tokenizer.token(tokenizer.eos_id) or "") + "a"
        # Whether text after a special token is encoded as if it stood alone (with a space put before it).
        self._alone = tokenizer.encode(probe, allow_special=True)[1:] == tokenizer.encode("a")
        self._spaced = tokenizer.encode("\na") != self._line + tokenizer.encode("a")

    def prompt(self, messages: Turns, tools: Tools = ()) -> list[int]:
        """The ids a model reads before it answers, the generation prompt included.

        Args:
            messages: the turns.
            tools: what the assistant may call, as JSON schemas.

        Raises:
            RequestError: when the template refuses these messages.
        """
        return self._encode(self._prompt(messages, tools)).ids

    def learn(self, messages: Turns, learned: Sequence[bool], tools: Tools = ()) -> ChatTokens:
        """The ids of a conversation, of which those that the assistant says in `learned` turns are learned.

        Args:
            messages: the turns.
            learned: of each, whether it is learned; only the assistant's can be.
            tools: as in `prompt`.

        Raises:
            UnstableTemplate: when the template has no generation blocks and its turns are not where
                they were when they were said (UnaskedAnswer: the last one).
            RequestError: when the template refuses these messages.
        """
        if len(learned) != len(messages):
            raise ValueError(f"{len(messages)} turns and {len(learned)} flags")
        if any(flag and turn["role"] != "assistant" for flag, turn in zip(learned, messages, strict=True)):
            raise ValueError("only the assistant's turns are learned")
        whole = self._render(messages, False, tools)
        if not self.template.has_generation:
            turns = [turn for turn, flag in enumerate(learned) if flag]
            prefixes = Prefixes(self.template.where, self._names, self._special_names)
            parts = [
                (self._prompt(messages[:turn], tools), self._render(messages[: turn + 1], False, tools))
                for turn in turns
            ]
            return self._encode(prefixes.learned(whole, messages, turns, parts))
        answers = [(turn, flag) for turn, flag in enumerate(learned) if messages[turn]["role"] == "assistant"]
        prompts = [(self._before(messages[:turn], tools), flag) for turn, flag in answers]
        marked, unasked = learned_blocks(whole, prompts)
        return replace(self._encode(marked), unasked=unasked)

    def stop_ids(self) -> tuple[int, ...]:
        """The tokens that end an answer: EOS, and the template's ends of a turn where they are others.

        An end of turn that is no special token cannot be told from text; then there is only EOS.

        Raises:
            RequestError: when the template refuses every plain question and answer that is tried.
        """
        refusals: list[RequestError] = []
        for talk in _TALKS:
            found: list[ChatTokens] = []
            try:
                found.append(self._said(talk))
            except RequestError as error:
                refusals.append(error)
                continue
            with suppress(RequestError):  # it writes history otherwise, or wants an answer last
                found.append(self._said([*talk, talk[-2]]))
            last = [i for tokens in found for i in self.ends(tokens) if i in self.tokenizer.special_ids]
            return tuple(dict.fromkeys((self.tokenizer.eos_id, *last)))
        raise refusals[0]

    def _said(self, messages: Turns) -> ChatTokens:
        """The assistant's turns, as the template marks them where it does."""
        if self.template.has_generation:
            return self._encode(self._render(messages, False, ()))
        return self.learn(messages, [turn["role"] == "assistant" for turn in messages])

    def ends(self, tokens: ChatTokens) -> list[int]:
        """The last token of every learned turn, white space after it aside."""
        found = []
        for begin, end in tokens.spans:
            said = tokens.ids[begin:end]
            blank = (not self.tokenizer.decode([i], skip_special=False).strip() for i in said[::-1])
            found.append(said[-1 - next((n for n, white in enumerate(blank) if not white), 0)])
        return found

    def _render(self, messages: Turns, add_generation_prompt: bool, tools: Tools) -> str:
        return self.template.render_marked(messages, add_generation_prompt, self._special_names, tools)

    def _prompt(self, messages: Turns, tools: Tools) -> str:
        """The marked text of a prompt, in which nothing is learned."""
        return self._render(messages, True, tools).replace(OPEN, "").replace(CLOSE, "")

    def _before(self, messages: Turns, tools: Tools) -> str | None:
        """The prompt for what follows these turns; None where nobody is asked for it: a greeting that comes first."""
        try:
            return self._prompt(messages, tools)
        except RefusedByTemplate:
            if messages:
                raise
            return None

    def _encode(self, marked: str) -> ChatTokens:
        """Marked text to ids; text between two of the template's special tokens is encoded together."""
        ids: list[int] = []
        edges: list[int] = []  # OPEN and CLOSE by turns, as places in ids
        parted = begin = 0
        cuts: list[int] = []  # marks in the text since the last special token, as places in it
        text, strip = "", False
        for sign in [*self._signs.finditer(marked), None]:
            text += marked[begin : sign.start() if sign else len(marked)].replace(BROKEN, "")
            begin = sign.end() if sign else begin
            name = sign["name"] if sign else None
            if sign and name is None:
                cuts.append(len(text))
                continue
            token = self._special[name] if name else None
            text, cuts = _stripped(text, cuts, strip, token is not None and token["lstrip"])
            some, places, twice = self._text(text, cuts, first=not ids)
            edges += [len(ids) + place for place in places]
            ids += some
            parted += twice
            if token:
                ids.append(token["id"])
            text, cuts, strip = "", [], token is not None and token["rstrip"]
        spans = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]
        learned = [False] * len(ids)
        for a, b in spans:
            learned[a:b] = [True] * (b - a)
        return ChatTokens(ids, learned, spans, parted)

    def _text(self, text: str, cuts: list[int], first: bool) -> tuple[list[int], list[int], int]:
        """Ids of ordinary text, the places of `cuts` in them, and at how many it had to be parted."""
        encode = self.tokenizer.encode if first or self._alone else self._going_on
        ids, places = encode(text) if text else [], []
        parted = begin = base = 0  # the text from `begin` on is encoded apart; its ids begin at `base`
        for cut in cuts:
            head = (self._going_on if begin else encode)(text[begin:cut]) if cut > begin else []
            place = base + len(head)
            if ids[base:place] != head:
                ids = [*ids[:base], *head, *self._going_on(text[cut:])]
                parted, begin, base = parted + 1, cut, place
            places.append(place)
        return ids, places, parted

    def _going_on(self, text: str) -> list[int]:
        """Ids of a text in the middle of another: without the space that some vocabularies put before a text."""
        if not text:
            return []
        if not self._spaced:
            return self.tokenizer.encode(text)
        ids = self.tokenizer.encode("\n" + text)
        if ids[: len(self._line)] == self._line:
            return ids[len(self._line) :]
        return self.tokenizer.encode(text)


def _stripped(text: str, cuts: list[int], left: bool, right: bool) -> tuple[str, list[int]]:
    """`text` without the space that special tokens beside it take in, as some vocabularies have them."""
    if left:
        bare = text.lstrip()
        cuts = [max(0, cut - (len(text) - len(bare))) for cut in cuts]
        text = bare
    if right:
        text = text.rstrip()
        cuts = [min(cut, len(text)) for cut in cuts]
    return text, cuts


def template_for(tokenizer: Tokenizer, named: str = "auto", where: str = "chat_template") -> ChatTemplate:
    """The template that a stage speaks in.

    Args:
        tokenizer: the model's; a template that came with it is kept.
        named: "auto": the model's own, else ChatML where the vocabulary has its two tokens, else PLAIN
            (see there; nothing is ever added to a vocabulary). "chatml" or "plain". Or a template's file.

    Raises:
        RequestError: when there is no such file, it cannot be read, it is no template, or ChatML is asked of a
            vocabulary that cannot say it.
    """
    ends = all(tokenizer.id_of(name) in tokenizer.special_ids for name in (IM_START, IM_END))
    if named == "auto":
        source, place = tokenizer.chat_template or (CHATML if ends else PLAIN), where
    elif named in NAMED:
        source, place = NAMED[named], where
    else:
        if "\0" in named or not Path(named).exists():
            raise RequestError(
                f"there is no chat template {named!r}",
                where,
                "write auto, chatml, plain, or a template's file",
            )
        source, place = read_source(Path(named)), named
    if source == CHATML and not ends:
        raise RequestError(
            f"ChatML needs the special tokens {IM_START} and {IM_END}, which {tokenizer.name} has not", where,
            "write plain: roles in ordinary words, EOS as the end of a turn",
        )  # fmt: skip
    ids = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id, "pad_token": tokenizer.pad_id}
    special = {key: name for key, i in ids.items() if (name := tokenizer.token(i)) is not None}
    if isinstance(unknown := json.loads(tokenizer.to_json())["model"].get("unk_token"), str):
        special["unk_token"] = unknown
    return ChatTemplate(source, special, place)


def chatting(tokenizer: Tokenizer, template: ChatTemplate) -> Tokenizer:
    """The tokenizer with a template of its own: saved beside it, with the tokens that end an answer.

    These are the tokenizer's own and the template's ends of a turn, which a base model's settings do not name.
    """
    ends = ChatEncoder(template, tokenizer).stop_ids()
    return tokenizer.with_chat(template.source, (*tokenizer.stop_ids, *ends))
