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
there is no such place; that is found out and refused, never guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from linnet.config import RequestError
from linnet.text.chat_template import BROKEN, CHATML, CLOSE, NAMED, OPEN, PLAIN, ChatTemplate, broken_up
from linnet.text.tokenizer import Tokenizer
from linnet.text.train import IM_END, IM_START

Turns = Sequence[Mapping[str, Any]]


class UnstableTemplate(RequestError):
    """The template writes a turn otherwise once later ones follow, so what was said cannot be told apart."""


@dataclass(frozen=True)
class ChatTokens:
    """A conversation's tokens: ids [n], learned [n], and the spans [begin, end) of the learned turns."""

    ids: list[int]
    learned: list[bool]
    spans: list[tuple[int, int]]
    parted: int  # places where the text was encoded in two parts


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
        self._signs = re.compile(f"(?P<name>{names})|[{OPEN}{CLOSE}]")
        self._line = tokenizer.encode("\n")
        probe = (tokenizer.token(tokenizer.eos_id) or "") + "a"
        # Whether text after a special token is encoded as if it stood alone (with a space put before it).
        self._alone = tokenizer.encode(probe, allow_special=True)[1:] == tokenizer.encode("a")
        self._spaced = tokenizer.encode("\na") != self._line + tokenizer.encode("a")

    def prompt(self, messages: Turns) -> list[int]:
        """The ids a model reads before it answers, the generation prompt included.

        Raises:
            RequestError: when the template refuses these messages.
        """
        marked = self.template.render_marked(messages, True, self._names)
        return self._encode(marked.replace(OPEN, "").replace(CLOSE, "")).ids

    def learn(self, messages: Turns, learned: Sequence[bool]) -> ChatTokens:
        """The ids of a conversation, of which those that the assistant says in `learned` turns are learned.

        Args:
            messages: the turns.
            learned: of each, whether it is learned; only the assistant's can be.

        Raises:
            UnstableTemplate: when the template has no generation blocks and its turns are not where
                they were when they were said.
            RequestError: when the template refuses these messages.
        """
        if len(learned) != len(messages):
            raise ValueError(f"{len(messages)} turns and {len(learned)} flags")
        if any(flag and turn["role"] != "assistant" for flag, turn in zip(learned, messages, strict=True)):
            raise ValueError("only the assistant's turns are learned")
        if self.template.has_generation:
            return self._encode(self._by_blocks(messages, learned))
        return self._encode(self._by_prefixes(messages, learned))

    def stop_ids(self) -> tuple[int, ...]:
        """The tokens that end an answer: EOS, and the template's ends of a turn where they are others.

        An end of turn that is no special token cannot be told from text; then there is only EOS.

        Raises:
            RequestError: when the template refuses a plain question and answer.
        """
        talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        ends = [self.learn(talk, [False, True])]
        with suppress(RequestError):  # it writes history otherwise, or wants an answer last
            ends.append(self.learn([*talk, talk[0]], [False, True, False]))
        last = [i for tokens in ends for i in self.ends(tokens) if i in self.tokenizer.special_ids]
        return tuple(dict.fromkeys((self.tokenizer.eos_id, *last)))

    def ends(self, tokens: ChatTokens) -> list[int]:
        """The last token of every learned turn, white space after it aside."""
        found = []
        for begin, end in tokens.spans:
            said = tokens.ids[begin:end]
            blank = (not self.tokenizer.decode([i], skip_special=False).strip() for i in said[::-1])
            found.append(said[-1 - next((n for n, white in enumerate(blank) if not white), 0)])
        return found

    def _by_blocks(self, messages: Turns, learned: Sequence[bool]) -> str:
        """The marked text with the blocks of the learned turns only."""
        marked = self.template.render_marked(messages, False, self._names)
        said = [flag for flag, turn in zip(learned, messages, strict=True) if turn["role"] == "assistant"]
        if all(said):
            return marked
        if marked.count(OPEN) != len(said):
            raise RequestError(
                "the chat template's generation blocks are not one for each of the assistant's turns, "
                "so single turns cannot be learned", self.template.where, "learn all turns, or mend the template",
            )  # fmt: skip
        flags = iter(said)
        blocks = re.compile(f"{OPEN}([^{OPEN}{CLOSE}]*){CLOSE}")
        return blocks.sub(lambda block: block[0] if next(flags) else block[1], marked)

    def _by_prefixes(self, messages: Turns, learned: Sequence[bool]) -> str:
        """The marked text, with marks put where each learned turn begins and ends."""
        render = self.template.render_marked
        whole = render(messages, False, self._names)
        parts, at = [], 0
        for turn, flag in enumerate(learned):
            if not flag:
                continue
            before = render(messages[:turn], True, self._names)
            after = self._until(messages[: turn + 1], whole, before)
            if after is None:
                raise UnstableTemplate(
                    f"the chat template writes turn {turn + 1} of {len(messages)} otherwise when it is asked for "
                    "than when it is history", self.template.where,
                    "learn each turn by itself (turns: each), or give the template {% generation %} blocks",
                )  # fmt: skip
            begin, end = len(before), self._end(after, len(before))
            parts += [whole[at:begin], OPEN, whole[begin:end], CLOSE]
            at = end
        return "".join([*parts, whole[at:]])

    def _until(self, messages: Turns, whole: str, before: str) -> str | None:
        """The beginning of `whole` up to the end of the last of these turns; None where it reads otherwise.

        Some templates end a conversation with a token of its own (Phi-3), which is not there once a turn
        follows: then the two agree up to the end of the turn, its words and its last special token included.
        """
        after = self.template.render_marked(messages, False, self._names)
        if not whole.startswith(after):
            shared = _shared(after, whole)
            ends = [name.end() for name in self._names.finditer(shared, len(before))]
            after = shared[: ends[-1]] if ends else ""
            words = str(broken_up(messages[-1]["content"], self._names)).strip()
            if words not in after[len(before) :]:
                return None
        return after if after.startswith(before) else None

    def _end(self, after: str, begin: int) -> int:
        """Where the turn that begins at `begin` ends: with its last special token, if only space follows that."""
        ends = [name.end() for name in self._names.finditer(after, begin)]
        return ends[-1] if ends and not after[ends[-1] :].strip() else len(after)

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


def _shared(one: str, other: str) -> str:
    """The beginning that two texts share."""
    pairs = enumerate(zip(one, other, strict=False))
    return one[: next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))]


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
        RequestError: when there is no such file, it is no template, or ChatML is asked of a
            vocabulary that cannot say it.
    """
    ends = all(tokenizer.id_of(name) in tokenizer.special_ids for name in (IM_START, IM_END))
    if named == "auto":
        source, place = tokenizer.chat_template or (CHATML if ends else PLAIN), where
    elif named in NAMED:
        source, place = NAMED[named], where
    else:
        try:
            with open(named, encoding="utf-8") as file:
                source, place = file.read(), named
        except (OSError, UnicodeDecodeError):
            raise RequestError(
                f"there is no chat template {named!r}",
                where,
                "write auto, chatml, plain, or a template's file",
            ) from None
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
