"""Stages that learn from conversations and pairs: instruction tuning, refusals, preferences.

What all of them do first is the same: read the sources, hold questions out, render through the chat template,
look over what came of it, and refuse what should not be learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from linnet.config import RequestError
from linnet.data.conversations.collection import Collection, collect_items, shares_of
from linnet.data.conversations.kinds import Item, Kind
from linnet.data.conversations.preflight import look_over
from linnet.data.conversations.reading import World, collect, rows
from linnet.data.conversations.rendering import Renderer
from linnet.data.example_batches import (
    ExampleBatches,
    GroupBatches,
    HeldOutExamples,
    HeldOutPacked,
    PackedBatches,
    digest_of_examples,
)
from linnet.data.examples import Example
from linnet.data.packing import BucketedBatches, PackedExamples
from linnet.evaluate.suites import is_harmful
from linnet.hardware import Choices, Pick, choose, detect
from linnet.model import Transformer, load_model, lora
from linnet.objectives import NextToken
from linnet.objectives.preference import Preference
from linnet.objectives.reference import (
    cached_reference,
    frozen_copy,
    reference_key,
    reference_logprobs,
    weights_digest,
)
from linnet.recipe.recipe import Recipe
from linnet.recipe.stages import ChatStage, PreferenceStage, SafetyStage, StageName
from linnet.recipe.starts import check_start
from linnet.recipe.work import Equipped, Show, Start, Work
from linnet.text import Tokenizer
from linnet.text.chat_tokens import chatting, template_for
from linnet.train.validation import HeldOut, HeldOutLoss

KINDS: dict[StageName, Kind] = {
    "sft": "conversation", "safety": "conversation", "dpo": "pair", "rlvr": "problem",
}  # fmt: skip
_MULTIPLE = 32  # widths of pairs are multiples of this


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
        return [self.renderer.encoder.prompt([{"role": "user", "content": word}]) for word in words]

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

    def check_schedule(self, total: int) -> None:
        """Refuse a warmup or a decay that does not fit.

        Raises:
            RequestError: it does not.
        """
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


@dataclass
class ConversationWork(Asked):
    """Instruction tuning and refusals: packed rows, next-token loss on the assistant's words. See Work."""

    train: ExampleBatches | None = None
    held_out: Sequence[Example] = ()
    total_steps: int = 0
    fingerprint: str = ""
    rows: int = 1

    @property
    def sequence_length(self) -> int:
        """Of a packed row."""
        return self.length

    def equip(self, model: Transformer, folder: Path, begun: bool) -> Equipped:
        """See Work."""
        assert self.train is not None
        validation = None
        if self.held_out:
            rows = PackedExamples(self.held_out, self.length, self.recipe.seed, self.pad_id)
            validation = self.loss_over(HeldOutPacked(rows), perplexity=True)
        return Equipped(NextToken(), self.train, validation)


@dataclass
class PairWork(Asked):
    """Preference tuning: a chosen and a rejected answer, each a row of its own. See Work."""

    groups: BucketedBatches | None = None
    learned: Sequence[Example] = ()
    held_out: Sequence[Example] = ()
    total_steps: int = 0
    fingerprint: str = ""
    rows: int = 2

    @property
    def sequence_length(self) -> int:
        """Of the longest row."""
        return self.length

    def equip(self, model: Transformer, folder: Path, begun: bool) -> Equipped:
        """See Work."""
        stage = self.stage
        assert isinstance(stage, PreferenceStage)
        assert self.groups is not None
        frozen: Transformer | None = None
        columns: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        if stage.needs_reference and stage.reference == "precomputed":
            values = self._references(model, folder, begun)
            learned = len(self.learned)
            columns = ({"reference": values[:learned]}, {"reference": values[learned:]})
        elif stage.needs_reference and not lora.adapters(model):
            frozen = reference_model(model, self.start, begun)
        train = GroupBatches("pairs", self.groups, columns[0])
        validation = None
        if self.held_out:
            held_out = HeldOutExamples(self.held_out, self.pad_id, 2, columns[1])
            validation = self.loss_over(held_out, perplexity=False)
        return Equipped(Preference(stage, frozen), train, validation)

    def _references(self, model: Transformer, folder: Path, begun: bool) -> Tensor:
        """Reference log-probabilities of learned and of held-out examples; computed once."""
        itself = (
            lora.adapters(model) or not begun
        )  # read without its adapters, it is what the stage begins with
        reference = model if itself else reference_model(model, self.start, begun)
        examples = [*self.learned, *self.held_out]
        budget = 8 * self.length
        picked = self.choices
        key = reference_key(
            weights_digest(reference), examples, picked.precision.value, picked.device.value, budget
        )
        return cached_reference(
            folder / "reference", key, lambda: reference_logprobs(reference, examples, self.pad_id, budget)
        )


def prepare_conversations(recipe: Recipe, name: StageName, start: Start, show: Show) -> Work:
    """Read, render and look over what a stage learns from.

    Raises:
        RequestError: when a source cannot be read or gives nothing of what the stage learns from, or what
            it gives is not what it should be.
    """
    if name == "rlvr":
        from linnet.recipe.rewards import prepare_problems

        return prepare_problems(recipe, start, show)
    asked = ask(recipe, name, start)
    if KINDS[name] == "pair":
        return _pairs(asked, show)
    return _conversations(asked, show)


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


def renderer_of(recipe: Recipe, name: StageName, start: Start, room: int = 0) -> Renderer:
    """What makes a stage's examples.

    Raises:
        RequestError: when the template cannot be used, or the rows are longer than the model reads.
    """
    stage = recipe.stage(name)
    assert isinstance(stage, ChatStage)
    template = template_for(start.tokenizer, stage.chat.chat_template, f"{name}.chat.chat_template")
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


def stage_items(recipe: Recipe, name: StageName) -> Collection:
    """The items of a stage, learned and held out.

    Raises:
        RequestError: as `collect_items`.
    """
    stage = recipe.stage(name)
    assert isinstance(stage, ChatStage)
    world: World | None = "request" if name == "safety" else None
    items = collect_items(stage.data, KINDS[name], recipe.seed, world)
    if not isinstance(stage, SafetyStage) or not stage.ordinary_share:
        return items
    settings = stage.ordinary or (recipe.sft.data if recipe.sft else None)
    assert settings is not None
    ordinary = collect_items(settings, "conversation", recipe.seed)
    parts, notes = shares_of(
        [("requests", items.train), ("ordinary conversations", ordinary.train)],
        [1 - stage.ordinary_share, stage.ordinary_share], recipe.seed,
    )  # fmt: skip
    return replace(
        items,
        gathered=[*items.gathered, *ordinary.gathered],
        train=[item for part in parts for item in part],
        notes=(*items.notes, *ordinary.notes, *notes),
    )


def _conversations(asked: Asked, show: Show) -> ConversationWork:
    renderer, stage = asked.renderer, asked.stage
    examples = renderer.conversations(asked.items.train)  # type: ignore[arg-type]
    asked.look_over(examples, show)
    held_out = asked.apart().conversations(asked.items.validation)  # type: ignore[arg-type]
    rows = PackedExamples(examples, asked.length, asked.recipe.seed, asked.pad_id)
    train = PackedBatches("conversations", rows, stage.train_batch_size)
    total = train.steps(stage.duration, stage.train_batch_size * asked.length)
    asked.check_schedule(total)
    return ConversationWork(
        **asked.facts(), train=train, held_out=held_out, total_steps=total,
        fingerprint=digest_of_examples(examples, held_out),
    )  # fmt: skip


def _pairs(asked: Asked, show: Show) -> PairWork:
    renderer, stage = asked.renderer, asked.stage
    learned = renderer.pairs(asked.items.train)  # type: ignore[arg-type]
    asked.look_over(learned, show)
    held_out = asked.apart().pairs(asked.items.validation)  # type: ignore[arg-type]
    groups = BucketedBatches(
        learned, asked.length, asked.recipe.seed, asked.pad_id,
        batch_size=stage.train_batch_size, group=2, multiple=_MULTIPLE,
    )  # fmt: skip
    train = GroupBatches("pairs", groups)
    total = train.steps(stage.duration, 2 * stage.train_batch_size * asked.length)
    asked.check_schedule(total)
    return PairWork(
        **asked.facts(), groups=groups, learned=learned, held_out=held_out, total_steps=total,
        fingerprint=digest_of_examples(learned, held_out),
    )  # fmt: skip


# --- before the life begins ----------------------------------------------------------------------------


def check_ahead(recipe: Recipe, name: StageName, start: Start) -> None:
    """Refuse now what a later stage would refuse when its turn comes, as far as the first rows tell.

    Args:
        start: what the life begins with: its tokenizer and positions are those of all its stages.

    Raises:
        RequestError: a source that is not there or gives nothing of what the stage learns from, a verifier
            that cannot be had, a template that is none.
    """
    stage = recipe.stage(name)
    if stage.init_from is not None:
        start = check_start(recipe, name)
    if stage.lora is not None:
        lora.targets(start.spec, stage.lora)
    if not isinstance(stage, ChatStage):
        return
    items = _first_items(recipe, name)
    if name == "rlvr":
        from linnet.recipe.rewards import resolved

        resolved(stage, items)
        return
    if isinstance(stage, SafetyStage) and stage.gate and not any(is_harmful(item.columns) for item in items):
        raise RequestError(
            "none of the first requests has a label (harmful, harmless), so the gate would have nothing to go by",
            f"{name}.data", "say it by source, as columns: {label: harmful}, or set safety.gate=false",
        )  # fmt: skip
    renderer = renderer_of(recipe, name, start)
    render = renderer.pairs if KINDS[name] == "pair" else renderer.conversations
    look_over((), renderer, items, render(items)).check(stage.preflight, f"{name}.data")  # type: ignore[arg-type]


_AHEAD = 200  # rows of a source that are looked at


def _first_items(recipe: Recipe, name: StageName) -> list[Item]:
    """What the first rows of a stage's sources give."""
    stage = recipe.stage(name)
    assert isinstance(stage, ChatStage)
    sets = [(stage.data, "request" if name == "safety" else None)]
    if isinstance(stage, SafetyStage) and stage.ordinary is not None:
        sets.append((stage.ordinary, None))
    worlds: dict[Kind, World] = {"conversation": "instruction", "pair": "preference", "problem": "problem"}
    found: list[Item] = []
    for settings, world in sets:
        for source in (*settings.sources, *settings.validation_sources):
            some = islice(rows(source, "train", world or worlds[KINDS[name]]), _AHEAD)  # type: ignore[arg-type]
            found += collect(some, KINDS[name], source.title).items
    return found
