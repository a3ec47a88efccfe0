"""Learning from verified rewards: sample, judge, and make what was better than its group more likely.

The loss is about 0 by design (a group's advantages add up to nothing), so it says nothing of how well
things go: the reward and its spread do. What the importance ratio is held against are the log-probabilities
with which the sampler drew each token, at the temperature it drew at and over the tokenizer's tokens alone; so at
the first step after rollouts the ratio is 1 but for rounding, and `rlvr/ratio` shows it. Dropout would undo that:
it is off in `loss`, whatever the model's settings say, and left off, because gradient checkpointing runs the
forward pass again in backward.

Everything random is computed from (seed, generation): there is no state of a generator to save. The rollouts
themselves are saved where several steps share them, because the weights that made them are gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from linnet.config import RequestError
from linnet.data.batches import IGNORE, Batch
from linnet.data.conversations.rendering import Prompt
from linnet.data.order import Permutation
from linnet.infer import Check, Generator, SamplingSettings, go_on
from linnet.model import Transformer
from linnet.objectives.objective import Loss
from linnet.objectives.reward.losses import TokenLosses, advantages, equal_groups, token_losses
from linnet.objectives.reward.news import News, metrics
from linnet.objectives.reward.reference import check_reference, reference_logprobs
from linnet.objectives.reward.rollouts import Group, Rollouts, columns_of, roll_out, seed_of
from linnet.objectives.reward.rows import Rows, make_rows, narrowed
from linnet.objectives.reward.settings import RewardSettings
from linnet.objectives.token_logprobs import token_entropies, token_logprobs
from linnet.objectives.verifiers import Verifier

_SHUFFLE, _REFILL = 1, 2  # what a keyed permutation is for
_METRIC = "metric."
_ROUNDING = 0.01  # of approx_kl: BF16 on both sides gives some 1e-4


class Reward:
    """The objective of RLVR; GRPO and its relatives by `settings`.

    A step's batch names the problems of its generation (`PromptBatches`); `prepare` turns it into rows to learn
    from: the completions of this step, `train_batch_size` of them.

    Args:
        problems: what the batches' numbers stand for.
        generator: samples from the model that is trained, with its tokenizer.
        reference: the frozen model that `beta` holds the policy to; None for an adapted model, which is its own.

    Raises:
        RequestError: when a verifier lacks a column, a prompt leaves no room for `max_completion_length`
            tokens, or beta has no reference.
    """

    def __init__(
        self,
        problems: Sequence[Prompt],
        verifiers: Sequence[Verifier],
        generator: Generator,
        settings: RewardSettings,
        seed: int,
        *,
        reference: Transformer | None = None,
    ) -> None:
        self.problems, self.verifiers, self.generator = problems, verifiers, generator
        self.settings, self.seed, self.reference = settings, seed, reference
        spec = generator.model.spec
        self.vocab_size = min(spec.vocab_size, generator.tokenizer.vocab_size)
        check_problems(problems, verifiers, spec.max_position_embeddings, settings.max_completion_length)
        if settings.beta:
            check_reference(generator.model, reference)
        self._news = News(verifiers, settings.mask_truncated_completions)
        self._rows: Rows | None = None
        self._report: dict[str, float] = {}
        self._fresh = False

    def prepare(self, model: Transformer, batch: Batch, step: int, check: Check = go_on) -> Batch:
        """The rows of a step. At the first one of a generation the model answers all its prompts, and verifiers judge.

        What `check` raises leaves everything as it was before.

        Raises:
            RequestError: when rollouts of a checkpoint were made with other settings.
            RunError: when the model's output is not finite.
        """
        settings, problems = self.settings, batch.columns["problem"].tolist()
        generation, place = divmod(step, settings.steps_of_a_generation)
        if self._rows is None or self._rows.generation != generation:
            if place:
                self._news.add("the rollouts that this step shares were not in the checkpoint: made anew")
            self._rows = self._roll_out(model, problems, generation, check)
        if len(self._rows.tokens) != len(problems) * settings.num_generations:
            raise RequestError(
                f"the checkpoint is in the middle of a generation of {len(self._rows.tokens)} completions, and "
                f"these settings ask for {len(problems) * settings.num_generations}", "",
                "repeat what the run was begun with, or start another with --run DIR or --fresh",
            )  # fmt: skip
        self._fresh = place == 0
        return self._rows.part(place % settings.steps_per_generation, settings.steps_per_generation)

    def counted(self, batch: Batch) -> int:
        """Completions that are learned from."""
        return int((batch.columns["weights"] > 0).sum())

    def loss(self, model: Transformer, batch: Batch) -> Loss:
        """Of some rows of a prepared batch. Puts the model in evaluation mode and leaves it there."""
        settings = self.settings
        model.eval()
        batch = narrowed(batch)
        mask = batch.targets != IGNORE
        hidden = model(batch.tokens).flatten(0, 1)
        head = model.head_weight[: self.vocab_size]
        logprobs = token_logprobs(hidden, head, batch.targets.flatten(), temperature=settings.temperature)
        terms = token_losses(
            logprobs.view(mask.shape), batch.columns["sampled"], batch.columns["advantages"], mask,
            epsilon=settings.epsilon, epsilon_high=settings.clip_high, level=settings.importance_sampling_level,
            beta=settings.beta, reference=batch.columns.get("reference"),
            bias_correction=settings.use_bias_correction_kl,
        )  # fmt: skip
        total = ((terms.loss * mask).sum(1) * batch.columns["weights"]).sum()
        entropies = token_entropies(
            hidden.detach(), head.detach(), mask.flatten(), temperature=settings.temperature
        )
        return Loss(total, self._measures(terms, entropies.view(mask.shape), mask))

    def _measures(self, terms: TokenLosses, entropies: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Means over tokens; of ratios for whole sequences, over these.

        approx_kl is how far the policy has moved since it drew the tokens (k3 of KL(sampled ‖ π)).
        """
        each = mask.any(1, keepdim=True) if self.settings.importance_sampling_level == "sequence" else mask
        found = {
            "rlvr/ratio": (terms.ratio, each),
            "rlvr/approx_kl": (terms.ratio - 1 - terms.ratio.log(), each),
            "rlvr/clip_ratio": (terms.clipped, each),
            "rlvr/entropy": (entropies, mask),
        }
        if terms.kl is not None:
            found["rlvr/kl"] = (terms.kl, mask)
        return {
            name: torch.stack(((value * where).sum().float(), where.sum().float()))
            for name, (value, where) in found.items()
        }

    def state(self) -> dict[str, Tensor]:
        """The rollouts at hand, where a later step may share them."""
        if self._rows is None or self.settings.steps_of_a_generation == 1:
            return {}
        shown = {_METRIC + name: torch.tensor(v, dtype=torch.float64) for name, v in self._report.items()}
        return {**self._rows.state(), **shown}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave."""
        self._rows = Rows.of(state) if state else None
        shown = {name: float(value) for name, value in state.items() if name.startswith(_METRIC)}
        self._report = {name.removeprefix(_METRIC): value for name, value in shown.items()}

    def heard(self, step: int, means: dict[str, float]) -> None:
        """At the first step after rollouts, no more than rounding may lie between training and sampling."""
        if self._fresh and means.get("rlvr/approx_kl", 0.0) > _ROUNDING:
            self._news.mismatch(means["rlvr/approx_kl"])

    def report(self) -> dict[str, float]:
        """Of the rollouts that the last step learned from."""
        return dict(self._report)

    def news(self) -> list[str]:
        """What is amiss with rollouts and verifiers, a line each, once."""
        return self._news.collect()

    def _roll_out(self, model: Transformer, problems: list[int], generation: int, check: Check) -> Rows:
        """Rows of a generation."""
        if self.generator.model is not model:
            raise ValueError("the generator samples from another model than the one that is trained")
        settings = self.settings
        sampled = self._sample(problems, generation, check)
        rewards = torch.from_numpy(np.stack([group.rewards for group in sampled.groups]))
        rows = make_rows(
            [completion for group in sampled.groups for completion in group.completions],
            advantages(rewards, settings.scale_rewards).flatten(), settings, generation,
            (self.seed, _SHUFFLE, generation), self.generator.tokenizer.eos_id,
        )  # fmt: skip
        if settings.beta:
            found = reference_logprobs(model, self.reference, rows, self.vocab_size, settings.temperature)
            rows = rows.with_reference(found)
        equal = int(equal_groups(rewards).sum())
        self._report = metrics(sampled.first, self.verifiers) | {
            "rlvr/seconds_rollout": sum(part.seconds_rollout for part in sampled.rounds),
            "rlvr/seconds_verify": sum(part.seconds_verify for part in sampled.rounds),
        }
        if settings.dynamic_sampling:
            self._report["rlvr/refilled_groups"] = sampled.refilled / len(problems)
        self._news.hear(sampled.first, equal, sampled.refilled)
        for part in sampled.rounds[1:]:
            for line in part.anomalies:
                self._news.add(line)
        return rows

    def _sample(self, problems: list[int], generation: int, check: Check) -> Sampled:
        """A group for each problem, or with dynamic sampling for another in its place."""
        settings = self.settings
        sampling = SamplingSettings(
            max_new_tokens=settings.max_completion_length, temperature=settings.temperature,
            seed=seed_of(self.seed, "rollouts", generation),
        )  # fmt: skip
        rounds = [self._round(problems, sampling, 0, check)]
        groups = list(rounds[0].groups)
        if not settings.dynamic_sampling:
            return Sampled(groups, rounds, 0)
        missing = _without_difference(groups)
        first, further = len(missing), self._further(problems, generation)
        while missing and len(rounds) <= settings.max_refills and len(further):
            some, further = further[: len(missing)].tolist(), further[len(missing) :]
            rounds.append(self._round(some, sampling, sum(len(part.groups) for part in rounds), check))
            fresh = rounds[-1].groups
            dull = set(_without_difference(fresh))
            for group in (group for place, group in enumerate(fresh) if place not in dull):
                groups[missing.pop(0)] = group
        return Sampled(groups, rounds, first - len(missing))

    def _round(self, problems: list[int], sampling: SamplingSettings, first: int, check: Check) -> Rollouts:
        return roll_out(
            self.generator, [self.problems[problem] for problem in problems], self.verifiers,
            self.settings.num_generations, sampling, first=first,
            slots=self.settings.rollout_slots, deadline_seconds=self.settings.deadline_seconds, check=check,
        )  # fmt: skip

    def _further(self, problems: list[int], generation: int) -> np.ndarray:
        """Problems to fall back upon in a generation, in their order: none of its own, each once."""
        most = min(len(self.problems), len(problems) * (self.settings.max_refills + 1))
        order = Permutation(len(self.problems), self.seed, _REFILL, generation)(np.arange(most))
        return order[~np.isin(order, problems)]


class Sampled(NamedTuple):
    """groups: what is learned from. rounds: all that was sampled. refilled: groups of further prompts."""

    groups: list[Group]
    rounds: list[Rollouts]
    refilled: int

    @property
    def first(self) -> Rollouts:
        """The problems as they were drawn."""
        return self.rounds[0]


def check_problems(
    problems: Sequence[Prompt], verifiers: Sequence[Verifier], context: int, max_completion_length: int
) -> None:
    """Say before a run what would fail in it.

    Raises:
        RequestError: when a verifier lacks a column, or a prompt leaves no room for a completion.
    """
    columns = list(columns_of([prompt.problem for prompt in problems]))
    for verifier in verifiers:
        verifier.check_columns(columns)
    lengths = [len(prompt.ids) for prompt in problems]
    over = sum(length + max_completion_length > context for length in lengths)
    if over:
        room = context - max(lengths)
        raise RequestError(
            f"{over:,} of {len(lengths):,} prompts leave less than max_completion_length ({max_completion_length:,}) "
            f"of the model's {context:,} tokens for a completion", "max_completion_length",
            f"at most {room:,} fit after the longest; lower it, or leave out long prompts" if room > 0
            else "leave out long prompts",
        )  # fmt: skip


def _without_difference(groups: Sequence[Group]) -> list[int]:
    """The places of groups that teach nothing."""
    return equal_groups(torch.from_numpy(np.stack([g.rewards for g in groups]))).nonzero().flatten().tolist()
