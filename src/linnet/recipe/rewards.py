"""The stage that learns from verified rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from linnet.config import RequestError
from linnet.data.conversations.kinds import Item, Problem
from linnet.data.conversations.preflight import look_over
from linnet.data.conversations.rendering import Prompt
from linnet.data.peek import printable
from linnet.data.prompts import PromptBatches
from linnet.infer import Generator
from linnet.model import Transformer, lora
from linnet.objectives import Objective
from linnet.objectives.reward import Reward, check_solvable, evaluate_problems
from linnet.objectives.reward.rollouts import columns_of
from linnet.objectives.verifiers import Verifier, resolve
from linnet.recipe.asked import Asked, ask, reference_model
from linnet.recipe.recipe import Recipe
from linnet.recipe.stages import ChatStage, RewardStage
from linnet.recipe.work import Equipped, Show, Start
from linnet.train.engines import Engine, stop_where
from linnet.train.validation import Evaluation

_BRIEF = 160  # characters


@dataclass(frozen=True)
class HeldOutProblems:
    """The mean reward of one completion of each held-out problem, drawn as in training. See Validation."""

    generator: Generator
    problems: Sequence[Prompt]
    verifiers: Sequence[Verifier]
    settings: RewardStage
    seed: int
    metric: str = "val/reward"
    higher_is_better: bool = True

    def __call__(self, engine: Engine, objective: Objective, interrupted: Callable[[], bool]) -> Evaluation:
        """The reward, and what it is made of."""
        found = evaluate_problems(
            self.generator, self.problems, self.verifiers, samples=1, temperature=self.settings.temperature,
            max_new_tokens=self.settings.max_completion_length, seed=self.seed,
            deadline_seconds=self.settings.deadline_seconds, slots=self.settings.rollout_slots,
            check=partial(stop_where, interrupted),
        )  # fmt: skip
        return Evaluation(-found.reward, found.metrics("val"))


@dataclass
class ProblemWork(Asked):
    """Problems, and what says whether an answer is right. See Work."""

    problems: Sequence[Prompt] = ()
    held_out: Sequence[Prompt] = ()
    verifiers: Sequence[Verifier] = ()
    train: PromptBatches | None = None
    show: Show | None = None
    total_steps: int = 0
    fingerprint: str = ""
    rows: int = 1

    @property
    def sequence_length(self) -> int:
        """Of a prompt and its completion."""
        stage = self.stage
        assert isinstance(stage, RewardStage)
        return self.length + stage.max_completion_length

    def equip(self, model: Transformer, folder: Path, begun: bool) -> Equipped:
        """See Work. Before the first step the problems are tried.

        Raises:
            RequestError: when no try solves any of them.
        """
        stage, seed = self.stage, self.recipe.seed
        assert isinstance(stage, RewardStage)
        assert self.train is not None
        generator = Generator(model, self.tokenizer)
        if stage.check_problems and not begun:
            found = check_solvable(generator, self.problems, self.verifiers, stage, seed)
            if self.show is not None:
                told = "\n".join([f"{self.name}: before training, {found}", *found.warnings, ""])
                self.show(lambda _: told)
            if found.refusal is not None:
                error = found.refusal
                raise RequestError(error.what, error.where or self.name, error.mend)
        frozen = None
        if stage.beta and not lora.adapters(model):
            frozen = reference_model(model, self.start, begun)
        objective = Reward(self.problems, self.verifiers, generator, stage, seed, reference=frozen)
        limit = stage.eval_sequences
        validation = HeldOutProblems(generator, self.held_out[:limit], self.verifiers, stage, seed)
        return Equipped(objective, self.train, validation if self.held_out else None)


def prepare_problems(recipe: Recipe, start: Start, show: Show) -> ProblemWork:
    """Read and render the problems, and find what judges them.

    Raises:
        RequestError: as `prepare_conversations`, and when a verifier cannot be had or lacks a column.
    """
    stage = recipe.rlvr
    assert stage is not None
    asked = ask(recipe, "rlvr", start, stage.max_completion_length)
    verifiers = resolved(stage, asked.items.train)
    problems = asked.renderer.problems(asked.items.train)  # type: ignore[arg-type]
    counts = asked.renderer.counts
    lines = [
        "rlvr: what it will try", *asked.items.notes, *map(str, asked.items.gathered),
        f"{len(problems):,} prompts, {len(asked.items.validation):,} held out; the longest {counts.longest:,} tokens",
    ]  # fmt: skip
    if counts.too_long:
        lines.append(f"too long: {counts.dropped:,} dropped, {counts.cut:,} cut from the left of the prompt")
    if counts.dropped and not problems:
        raise RequestError(
            "no prompt fits", "rlvr.data", "raise sequence_length or lower max_completion_length"
        )
    found = look_over(asked.items.gathered, asked.renderer, asked.items.train, (), asked.items.validation)
    if not problems:
        found.check(stage.preflight, "rlvr.data")
    for number in sorted({len(problems) * (2 * place + 1) // 6 for place in range(3)}):
        problem = problems[number].problem
        lines.append(f"  {_brief(problem.prompt[-1]['content'])} → {_brief(problem.right)}")
    lines += found.told("unusable", "too_long", "duplicates", "validation_overlap")
    lines += found.template_notes()
    show(lambda _: "\n".join([*lines, ""]))
    found.check(stage.preflight, "rlvr.data")
    train = PromptBatches(
        "problems", problems, recipe.seed, per_generation=stage.prompts_per_generation(stage.train_batch_size),
        steps=stage.steps_of_a_generation, pad_id=asked.pad_id,
    )  # fmt: skip
    length = asked.length + stage.max_completion_length
    total = train.steps(stage.duration, stage.train_batch_size * length)
    held_out = asked.apart().problems(asked.items.validation)  # type: ignore[arg-type]
    asked.check_settings(total, held_out)
    return ProblemWork(
        **asked.facts(), problems=problems, held_out=held_out, verifiers=verifiers, train=train, show=show,
        total_steps=total, fingerprint=train.fingerprint(0),
    )  # fmt: skip


def _brief(value: object) -> str:
    """On one line, cut where it is long."""
    text = " ".join(printable(str(value)).split())
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}…"


def resolved(stage: ChatStage, items: Sequence[Item]) -> list[Verifier]:
    """The verifiers of a stage, which find what they need in the problems.

    Raises:
        RequestError: when one cannot be had, or lacks a column.
    """
    assert isinstance(stage, RewardStage)
    verifiers = [resolve(settings) for settings in stage.verifiers]
    columns = list(columns_of([item for item in items if isinstance(item, Problem)]))
    for verifier in verifiers:
        try:
            verifier.check_columns(columns)
        except RequestError as error:
            raise RequestError(error.what, error.where or "rlvr.verifiers", error.mend) from None
    return verifiers
