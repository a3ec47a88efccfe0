"""A conversation that remembers what was said until the model's context is full.

A model with a chat template is spoken to in turns, in the form it was trained on. One without
only continues text, and says so: what is typed and what it writes make one growing text.
When the context is full, the oldest turns (or the oldest words) are forgotten first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from linnet.config import RequestError
from linnet.infer.generator import Generator
from linnet.infer.sampling import SamplingSettings
from linnet.text import Tokenizer
from linnet.text.chat_template import ChatTemplate, Message
from linnet.text.chat_tokens import ChatEncoder, chatting


class TurnConversation:
    """Turns in the form of a chat template."""

    description = "You speak in turns with a chat model."

    def __init__(
        self, generator: Generator, tokenizer: Tokenizer, template: ChatTemplate, settings: SamplingSettings
    ) -> None:
        self.tokenizer, self.template, self.settings = tokenizer, template, settings
        self._encoder = ChatEncoder(template, tokenizer)  # what people type never becomes a special token
        self.generator = generator
        with suppress(RequestError):  # the template does not show where a turn ends
            self.generator = generator.with_tokenizer(chatting(tokenizer, template))
        self.messages: list[Message] = []

    def say(self, line: str) -> Iterator[str]:
        """Pieces of the model's answer to a line."""
        self.messages.append({"role": "user", "content": line})
        answer = ""
        for piece in self.generator.stream(self._prompt(), self.settings):
            answer += piece
            yield piece
        self.messages.append({"role": "assistant", "content": answer})

    def _prompt(self) -> list[int]:
        room = _room(self.generator, self.settings)
        while True:
            ids = self._encoder.prompt(self.messages)
            if len(ids) <= room or len(self.messages) <= 1:
                return ids[-room:]
            del self.messages[:2]  # the oldest question and its answer


class TextConversation:
    """One growing text, for a model that only continues text."""

    description = "This is a base model: it has not been taught to answer, it continues what you write."

    def __init__(self, generator: Generator, tokenizer: Tokenizer, settings: SamplingSettings) -> None:
        self.generator, self.tokenizer, self.settings = generator, tokenizer, settings
        self.text = ""

    def say(self, line: str) -> Iterator[str]:
        """Pieces of the model's continuation of all that was written so far and this line."""
        self.text += f"\n{line}" if self.text else line
        room = _room(self.generator, self.settings)
        ids = self.tokenizer.encode_prompt(self.text)
        for piece in self.generator.stream(ids[-room:], self.settings):
            self.text += piece
            yield piece


def open_conversation(
    generator: Generator, tokenizer: Tokenizer, template: ChatTemplate | None, settings: SamplingSettings
) -> TurnConversation | TextConversation:
    """A conversation with a model, in turns where it has a template for them."""
    if template is None:
        return TextConversation(generator, tokenizer, settings)
    return TurnConversation(generator, tokenizer, template, settings)


def _room(generator: Generator, settings: SamplingSettings) -> int:
    """How many tokens may stand before the answer, so that at least half the context is for either."""
    context = generator.model.spec.max_position_embeddings
    return max(1, context - min(settings.max_new_tokens, context // 2))
