"""Rollouts: completions that a model draws for problems, and what verifiers make of them.

Training, the look before it and every evaluation get their completions and rewards here, so what is measured
is what is trained. Each completion's random numbers belong to (seed, number), whoever shares its batch.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linnet.data.conversations.kinds import Problem
from linnet.data.conversations.rendering import Prompt
from linnet.infer import Check, Completion, Generator, SamplingSettings, go_on
from linnet.objectives.verifiers import Verifier, score


@dataclass(frozen=True)
class Group:
    """The completions of one prompt.

    rewards: float64 [G], the weighted sum over verifiers, NaN where none judged. each: float64 [G, k],
    without weights.
    """

    prompt: Prompt
    completions: list[Completion]
    rewards: NDArray[np.float64]
    each: NDArray[np.float64]


@dataclass(frozen=True)
class Rollouts:
    """Groups in the order of their prompts. anomalies: what went wrong with verifiers, a line each."""

    groups: list[Group]
    anomalies: tuple[str, ...]
    seconds_rollout: float
    seconds_verify: float

    @property
    def rewards(self) -> NDArray[np.float64]:
        """Rewards [P, G]."""
        return np.stack([group.rewards for group in self.groups])

    @property
    def each(self) -> NDArray[np.float64]:
        """Rewards of each verifier [P, G, k]."""
        return np.stack([group.each for group in self.groups])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of the completions [P, G], the one that ended them included."""
        return np.array([[len(c.ids) for c in group.completions] for group in self.groups])

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """Which completions were cut off [P, G]."""
        return np.array([[c.finish_reason == "length" for c in group.completions] for group in self.groups])


def roll_out(
    generator: Generator,
    prompts: Sequence[Prompt],
    verifiers: Sequence[Verifier],
    generations: int,
    sampling: SamplingSettings,
    *,
    first: int = 0,
    slots: int | None = None,
    deadline_seconds: float = float("inf"),
    check: Check = go_on,
) -> Rollouts:
    """Draw `generations` completions of each prompt, with the log-probability of each token, and score them.

    Args:
        first: the number of the first prompt: its completions are the draws first·generations and on.
        slots: completions that are written at a time; None: all.
        check: see `infer.Check`.

    Raises:
        RequestError: when a prompt leaves no room in the model's context.
        RunError: when the model's output is not finite.
    """
    begun = time.perf_counter()
    repeated = [prompt for prompt in prompts for _ in range(generations)]
    numbers = range(first * generations, first * generations + len(repeated))
    completions = generator.generate(
        [prompt.ids for prompt in repeated],
        sampling,
        samples=list(numbers),
        logprobs=True,
        slots=slots,
        check=check,
    )
    drawn = time.perf_counter()
    problems = [prompt.problem for prompt in repeated]
    scores = score(
        verifiers,
        [[dict(turn) for turn in problem.prompt] for problem in problems],
        [completion.text for completion in completions],
        {**columns_of(problems), "completion_ids": [completion.ids for completion in completions]},
        deadline_seconds=deadline_seconds,
    )
    groups = [
        Group(prompt, completions[begin:end], scores.total[begin:end], scores.rewards[begin:end])
        for prompt, begin, end in (
            (prompt, place * generations, (place + 1) * generations) for place, prompt in enumerate(prompts)
        )
    ]
    return Rollouts(groups, scores.anomalies, drawn - begun, time.perf_counter() - drawn)


def columns_of(problems: Sequence[Problem]) -> dict[str, list[Any]]:
    """The problems' columns by name, a value each, None where a problem lacks it.

    `answer` is what a problem says is right, whatever its own column is called, so that sources that call
    it differently can be mixed.
    """
    names = dict.fromkeys(name for problem in problems for name in problem.columns)
    columns = {name: [problem.columns.get(name) for problem in problems] for name in names}
    if "answer" in columns or any(problem.answer is not None for problem in problems):
        columns["answer"] = [problem.right for problem in problems]
    return columns


def solved(each: NDArray[np.float64], verifiers: Sequence[Verifier]) -> NDArray[np.bool_]:
    """Which completions are right, by the verifiers' rewards [..., k] → [...].

    Right is what every verifier that judged gave more than half of 1, and one at least did judge. How an
    answer is written (`format`) does not count where something else is judged, nor does a verifier that
    takes away (a weight of 0 or less).
    """
    counts = [verifier.weight > 0 and verifier.settings.word != "format" for verifier in verifiers]
    if not any(counts):
        counts = [verifier.weight > 0 for verifier in verifiers]
    some = each[..., counts]
    judged = ~np.isnan(some)
    return np.asarray(judged.any(-1) & (~judged | (some > 0.5)).all(-1))


def seed_of(*facts: object) -> int:
    """A 63-bit seed that belongs to these facts."""
    return int.from_bytes(hashlib.blake2b(repr(facts).encode(), digest_size=8).digest(), "big") >> 1
