"""The stage that learns from preferences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from linnet.data.example_batches import GroupBatches, HeldOutExamples, digest_of_examples
from linnet.data.examples import Example
from linnet.data.packing import BucketedBatches
from linnet.model import Transformer, lora
from linnet.objectives.preference import Preference
from linnet.objectives.reference import cached_reference, reference_key, reference_logprobs, weights_digest
from linnet.recipe.asked import Asked, ask, reference_model
from linnet.recipe.recipe import Recipe
from linnet.recipe.stages import PreferenceStage
from linnet.recipe.work import Equipped, Show, Start

_MULTIPLE = 32  # widths of pairs are multiples of this


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


def prepare_pairs(recipe: Recipe, start: Start, show: Show) -> PairWork:
    """Read, render and look over the pairs of a stage.

    Raises:
        RequestError: as `prepare`.
    """
    asked = ask(recipe, "dpo", start)
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
    asked.check_settings(total, held_out)
    asked.tell_passes(train, total, show)
    return PairWork(
        **asked.facts(), groups=groups, learned=learned, held_out=held_out, total_steps=total,
        fingerprint=digest_of_examples(learned, held_out),
    )  # fmt: skip
