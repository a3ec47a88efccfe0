"""Whether there is anything to learn from these problems, asked before the hours are spent.

A policy gradient makes what a model already does now and then more frequent; what it never does it cannot find
this way. So before the first step some problems are tried several times: none ever rewarded, and the stage is
refused with what to do instead; nearly all always solved, and it is said that there is little to gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from linnet.config import RequestError
from linnet.data.conversations.rendering import Prompt
from linnet.data.order import Permutation
from linnet.infer import Generator
from linnet.objectives.reward.evaluation import Verified, evaluate_problems, mean
from linnet.objectives.reward.losses import equal_groups
from linnet.objectives.reward.rollouts import seed_of
from linnet.objectives.reward.settings import RewardSettings
from linnet.objectives.reward.suspects import lines, suspects
from linnet.objectives.verifiers import Verifier

_CHECK = 3  # what a keyed permutation is for; `objective` has the others
_TAUGHT = 0.95  # of problems solved at every try
_MUCH = 0.5


@dataclass(frozen=True)
class Solvable:
    """What a look at the problems found.

    found: the completions and rewards. varied: problems whose completions differ in reward, of all.
    refusal: to be raised; None when something can be learned. warnings: lines for a person.
    """

    found: Verified
    varied: int
    refusal: RequestError | None
    warnings: tuple[str, ...]

    @property
    def problems(self) -> int:
        """How many were tried."""
        return self.found.right.shape[0]

    @property
    def tries(self) -> int:
        """How often each."""
        return self.found.right.shape[1]

    @property
    def solved(self) -> int:
        """Problems with one right completion at least."""
        return int(self.found.right.any(axis=1).sum())

    def metrics(self) -> dict[str, float]:
        """By name, as at a step's rollouts."""
        ks = sorted({1, self.tries})
        return {
            "rlvr/reward": self.found.reward,
            **{f"rlvr/pass_at_{k}": self.found.pass_at(k) for k in ks},
            "rlvr/equal_groups": 1 - self.varied / self.problems,
            "rlvr/length": float(self.found.rollouts.lengths.mean()),
            "rlvr/truncated": float(self.found.rollouts.truncated.mean()),
        }

    def __str__(self) -> str:
        ones, several = self.found.pass_at(1), self.found.pass_at(self.tries)
        return (
            f"{self.solved} of {self.problems} problems solved in {self.tries} tries each: pass@1 {ones:.1%}, "
            f"pass@{self.tries} {several:.1%}, mean reward {self.found.reward:.3g}; {self.varied} of them have "
            "completions of different rewards"
        )


def check_solvable(
    generator: Generator,
    problems: Sequence[Prompt],
    verifiers: Sequence[Verifier],
    settings: RewardSettings,
    seed: int,
) -> Solvable:
    """Try `check_samples` completions of `check_problems` of the training problems, as training would draw them.

    Raises:
        RequestError, RunError: as `Generator.generate`; a refusal is returned, not raised.
    """
    count = min(settings.check_problems, len(problems))
    if not count:
        raise ValueError("check_problems 0 leaves this out")
    chosen = Permutation(len(problems), seed, _CHECK)(np.arange(count)).tolist()
    found = evaluate_problems(
        generator, [problems[place] for place in chosen], verifiers,
        samples=settings.check_samples, temperature=settings.temperature,
        max_new_tokens=settings.max_completion_length, seed=seed_of(seed, "check"),
        slots=settings.rollout_slots, deadline_seconds=settings.deadline_seconds,
    )  # fmt: skip
    varied = count - int(equal_groups(torch.from_numpy(found.rewards)).sum())
    return Solvable(found, varied, _refusal(found, verifiers, settings), _warnings(found, varied, verifiers))


def _refusal(found: Verified, verifiers: Sequence[Verifier], settings: RewardSettings) -> RequestError | None:
    problems, tries = found.right.shape
    judged = found.rewards[~np.isnan(found.rewards)]
    if not judged.size:
        why = f": {found.rollouts.anomalies[0]}" if found.rollouts.anomalies else ""
        return RequestError(
            f"no verifier could judge any of {problems * tries} completions{why}", "verifiers",
            "check the verifiers and the columns of the problems",
        )  # fmt: skip
    if found.right.any() or judged.max() > judged.min():
        return None
    return RequestError(
        f"0 of {problems} problems solved in {tries} tries each: this cannot be learned here "
        f"(every reward is {judged[0]:.3g})", "", "; ".join(_what_to_try(found, verifiers, settings)),
    )  # fmt: skip


def _what_to_try(found: Verified, verifiers: Sequence[Verifier], settings: RewardSettings) -> list[str]:
    tries = []
    cut = float(found.rollouts.truncated.mean())
    if cut > _MUCH:
        tries.append(
            f"{cut:.0%} of the completions were cut off: raise max_completion_length above "
            f"{settings.max_completion_length}"
        )
    for place, verifier in enumerate(verifiers):
        if verifier.settings.word == "format" and not mean(found.each[..., place]) > 0:
            tries.append(f"no completion has the form {verifier.settings.kind!r}: teach it by SFT first")
    return [*tries, "begin from a model after SFT on such problems, or give easier ones"]


def _warnings(found: Verified, varied: int, verifiers: Sequence[Verifier]) -> tuple[str, ...]:
    told = list(found.rollouts.anomalies)
    problems, tries = found.right.shape
    always = int(found.right.all(axis=1).sum())
    if always > _TAUGHT * problems:
        told.append(f"{always} of {problems} problems are solved at every one of {tries} tries: there is little to "
                    "learn; give harder ones")  # fmt: skip
    elif not varied and np.isfinite(found.rewards).any():
        told.append(f"none of {problems} problems has completions of different rewards in {tries} tries: there is "
                    "nothing to prefer; raise temperature or num_generations")  # fmt: skip
    elif not found.right.any():
        told.append(f"0 of {problems} problems solved in {tries} tries each: what rewards there are come for "
                    "something else than the answer")  # fmt: skip
    return (*told, *lines(suspects(found.rollouts.groups, verifiers)))
