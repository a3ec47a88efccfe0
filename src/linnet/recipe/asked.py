"""What all stages of conversations, pairs and problems do first: read the sources, hold questions out, render
through the chat template, look over what came of it, and refuse what should not be learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any

from linnet.config import RequestError
from linnet.data.conversations.collection import Collection
from linnet.data.conversations.preflight import look_over
from linnet.data.conversations.rendering import Renderer
from linnet.data.example_batches import ExampleBatches
from linnet.data.examples import Example
from linnet.hardware import Choices, Pick, choose, detect
from linnet.model import Transformer, load_model, lora
from linnet.objectives.reference import frozen_copy
from linnet.recipe.items import KINDS, stage_items
from linnet.recipe.recipe import Recipe
from linnet.recipe.stages import ChatStage, StageName
from linnet.recipe.work import Show, Start
from linnet.text import Tokenizer
from linnet.text.chat_tokens import chatting, template_for
from linnet.train.validation import HeldOut, HeldOutLoss

_MANY_PASSES = 10


@dataclass
class Asked:
    """A stage's items and the form in which they are said."""

    recipe: Recipe
    name: StageName
    stage: ChatStage
    start: Start
    choices: Choices
    tokenizer: Tokenizer
    renderer: Renderer
    items: Collection
    listeners: list[Callable[[str], None]] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Places of a row."""
        return self.renderer.max_length

    @property
    def pad_id(self) -> int:
        """What rows are filled up with; never learned, whatever it is."""
        return self.tokenizer.pad_id if self.tokenizer.pad_id is not None else self.tokenizer.eos_id

    def prompts(self, words: Sequence[str]) -> list[list[int]]:
        """What a user says, as the model reads it."""
        return user_prompts(self.renderer, words)

    def look_over(self, examples: Sequence[Example], show: Show) -> None:
        """Count what is about to be learned, show some of it, and refuse what is beyond the limits."""
        items = self.items
        found = look_over(items.gathered, self.renderer, items.train, examples, items.validation)
        head = [f"{self.name}: what it will learn", *items.notes]
        show(lambda colour: "\n".join([*head, found.text(self.tokenizer, colour)]))
        found.check(self.stage.preflight, f"{self.name}.data")

    def apart(self) -> Renderer:
        """A renderer for what is held out: it counts for itself, and leaves out what is too long."""
        settings = self.stage.chat.model_copy(update={"too_long": "drop"})
        return Renderer(self.tokenizer, self.renderer.template, self.renderer.max_length, settings)

    def tell_passes(self, train: ExampleBatches, total: int, show: Show) -> None:
        """Say so where few examples are learned again and again."""
        passes = train.passes(total)[train.title]
        if passes > _MANY_PASSES:
            show(
                lambda _: (
                    f"{self.name}: {total} steps learn every example {passes:.0f} times, and much of what was "
                    f"learned before is forgotten; give more data, or set {self.name}.duration to 3 epochs"
                )
            )

    def check_settings(self, total: int, held_out: Sized) -> None:
        """Refuse a warmup or a decay that does not fit, and what needs a validation where nothing is held out.

        Raises:
            RequestError: says which.
        """
        best = {"hand_on=best": self.stage.hand_on == "best",
                "early_stopping_patience": bool(self.stage.early_stopping_patience)}  # fmt: skip
        for key in (key for key, wanted in best.items() if wanted and not held_out):
            raise RequestError("there is nothing held out to tell the best by", f"{self.name}.{key}",
                               f"raise {self.name}.data.validation_fraction, or leave it out")  # fmt: skip
        try:
            self.stage.check_schedule(total)
        except ValueError as error:
            raise RequestError(str(error), self.name) from None

    def facts(self) -> dict[str, Any]:
        """Its fields, for a stage's work made of it."""
        return {name: getattr(self, name) for name in Asked.__dataclass_fields__}

    def loss_over(self, held_out: HeldOut, perplexity: bool) -> HeldOutLoss:
        """The stage's loss on what is held out."""
        size = self.stage.micro_batch_size
        return HeldOutLoss(
            {"held out": held_out}, micro_batch_size=size if isinstance(size, int) else None,
            limit=self.stage.eval_sequences, perplexity=perplexity,
        )  # fmt: skip

    def close(self) -> None:
        """Nothing runs beside the loop."""


def ask(recipe: Recipe, name: StageName, start: Start, room: int = 0) -> Asked:
    """A stage's items and renderer.

    Args:
        room: places of a row that are kept free for answers.
    """
    stage = recipe.stage(name)
    assert isinstance(stage, ChatStage)
    renderer = renderer_of(recipe, name, start, room)
    if stage.lora is not None:
        lora.targets(start.spec, stage.lora)
    choices = _choices(recipe, name, renderer.max_length + room, start)
    items = stage_items(recipe, name)
    return Asked(recipe, name, stage, start, choices, renderer.tokenizer, renderer, items)


def user_prompts(renderer: Renderer, words: Sequence[str]) -> list[list[int]]:
    """What a user says, as the model reads it."""
    return [renderer.encoder.prompt([{"role": "user", "content": word}]) for word in words]


def renderer_of(recipe: Recipe, name: StageName, start: Start, room: int = 0) -> Renderer:
    """What makes a stage's examples.

    Raises:
        RequestError: when the template cannot be used, or the rows are longer than the model reads.
    """
    stage = recipe.stage(name)
    assert isinstance(stage, ChatStage)
    template = template_for(start.tokenizer, stage.chat.chat_template, f"{name}.chat.chat_template")
    if stage.chat.system is not None:
        _check_system(stage.chat.system, start.tokenizer, f"{name}.chat.system")
        template = template.with_system(stage.chat.system)
    tokenizer = chatting(start.tokenizer, template)
    positions = start.spec.max_position_embeddings
    length = stage.data.sequence_length or positions
    if length > positions:
        raise RequestError(f"{length} is over the model's {positions} positions",
                           f"{name}.data.sequence_length", "shorten it")  # fmt: skip
    if length - room < 1:
        raise RequestError(f"answers of {room} tokens leave no room for a prompt in {length}",
                           f"{name}.max_completion_length", "shorten it")  # fmt: skip
    return Renderer(tokenizer, template_for(tokenizer), length - room, stage.chat)


def _check_system(system: str, tokenizer: Tokenizer, where: str) -> None:
    """Refuse a system turn that names a special token: in a saved template it would be read as one."""
    names = [name for i in tokenizer.special_ids if (name := tokenizer.token(i)) and name in system]
    if names:
        raise RequestError(f"it holds the special token {names[0]}", where, "leave it out")


def _choices(recipe: Recipe, name: StageName, length: int, start: Start) -> Choices:
    """As in pretraining; rows of many lengths are not compiled unless that is asked for."""
    hardware = recipe.hardware
    varied = KINDS[name] != "conversation" and hardware.compile == "auto"
    if varied:
        hardware = hardware.model_copy(update={"compile": False})
    choices = choose(hardware, detect(), length, start.spec.attention_dropout)
    if varied:
        choices = replace(choices, compile=Pick(False, "rows of many lengths would be compiled many times"))
    return choices


def reference_model(model: Transformer, start: Start, begun: bool) -> Transformer:
    """What a stage begins with, frozen, on the model's device and in its precision.

    Args:
        begun: whether the model is a checkpoint's already.
    """
    copied = frozen_copy(model)
    if begun:
        assert start.folder is not None
        copied.load_state_dict(load_model(start.folder, start.spec).state_dict())
    return copied
