"""What a model's completions of held-out problems are worth: rewards, and how often one of k tries is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from linnet.data.conversations.rendering import Prompt
from linnet.infer import Check, Generator, SamplingSettings, go_on
from linnet.objectives.reward.rollouts import Rollouts, roll_out, solved
from linnet.objectives.verifiers import Verifier


@dataclass(frozen=True)
class Verified:
    """Completions of P problems, S of each.

    rewards: float64 [P, S], NaN where nothing judged. each: float64 [P, S, k], by verifier. right:
    bool [P, S] (see `solved`). names: of the verifiers.
    """

    rollouts: Rollouts
    names: tuple[str, ...]
    rewards: NDArray[np.float64]
    each: NDArray[np.float64]
    right: NDArray[np.bool_]

    @property
    def reward(self) -> float:
        """The mean of the problems' mean rewards; NaN when nothing was judged."""
        return mean(self.per_problem)

    @property
    def per_problem(self) -> NDArray[np.float64]:
        """The mean reward of each problem that was judged, float64 [at most P]."""
        judged = self.rewards[~np.isnan(self.rewards).all(axis=1)]
        return np.nanmean(judged, axis=1)

    def pass_at(self, k: int) -> float:
        """The mean over problems of the chance that one of k completions is right."""
        tries = self.right.shape[1]
        return float(np.mean([pass_at_k(tries, int(count), k) for count in self.right.sum(axis=1)]))

    def metrics(self, prefix: str = "val") -> dict[str, float]:
        """`val/reward` and what belongs to it, by name."""
        found = {f"{prefix}/reward": self.reward}
        if len(self.names) > 1:
            found |= {f"{prefix}/reward/{n}": mean(self.each[..., i]) for i, n in enumerate(self.names)}
        found[f"{prefix}/solved"] = float(self.right.mean())
        if (tries := self.right.shape[1]) > 1:
            found[f"{prefix}/pass_at_{tries}"] = self.pass_at(tries)
        found[f"{prefix}/length"] = float(self.rollouts.lengths.mean())
        found[f"{prefix}/truncated"] = float(self.rollouts.truncated.mean())
        return found


def evaluate_problems(
    generator: Generator,
    problems: Sequence[Prompt],
    verifiers: Sequence[Verifier],
    *,
    samples: int = 1,
    temperature: float = 0.0,
    max_new_tokens: int = 256,
    seed: int = 0,
    slots: int | None = 128,
    deadline_seconds: float = float("inf"),
    check: Check = go_on,
) -> Verified:
    """Complete each problem `samples` times and score what comes.

    The same seed gives the same completions of the same model, whatever was drawn before.

    Args:
        slots: completions that are written at a time: memory and speed.
        temperature: 0 is greedy, and then one sample is all there is to have.
        deadline_seconds: for the verifiers; what is late is not judged.
        check: see `infer.Check`.

    Raises:
        RequestError, RunError: as `Generator.generate`.
    """
    sampling = SamplingSettings(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    done = roll_out(
        generator,
        problems,
        verifiers,
        samples,
        sampling,
        slots=slots,
        deadline_seconds=deadline_seconds,
        check=check,
    )
    names = tuple(verifier.name for verifier in verifiers)
    return Verified(done, names, done.rewards, done.each, solved(done.each, verifiers))


def pass_at_k(tries: int, right: int, k: int) -> float:
    """The chance that one of k completions is right, of which `right` of `tries` are, without bias.

    1 - C(n - c, k) / C(n, k) (Chen et al. 2021, "Evaluating large language models trained on code").
    """
    if not 1 <= k <= tries:
        raise ValueError(f"pass@{k} cannot be told from {tries} completions")
    return 1 - comb(tries - right, k) / comb(tries, k)


def mean(values: NDArray[np.float64]) -> float:
    """The mean of what is not NaN; NaN when nothing is left."""
    judged = values[~np.isnan(values)]
    return float(judged.mean()) if judged.size else float("nan")
