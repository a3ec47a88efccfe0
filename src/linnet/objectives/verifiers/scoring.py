"""All rewards of a batch of rollouts at once: verifiers side by side, one deadline, never a crash.

A batch is scored while a GPU waits, so verifiers run at the same time and whatever is late is given up: its
reward is NaN (not judged), which is not 0 (wrong). The total is TRL's: the weighted sum of the rewards that
there are, NaN where there is none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linnet.objectives.verifiers.completions import Completion
from linnet.objectives.verifiers.parallel import Budget, available_workers, each
from linnet.objectives.verifiers.verifier import Rewards, Verifier


@dataclass(frozen=True)
class Scores:
    """The rewards of n completions by k verifiers.

    `rewards` is float64 [n, k] without weights, NaN where a verifier gave none; `weights` is float64 [k];
    `anomalies` are lines for a person, each told once in the life of its verifier; `seconds` is [k], how
    long each verifier took.
    """

    rewards: NDArray[np.float64]
    weights: NDArray[np.float64]
    names: tuple[str, ...]
    anomalies: tuple[str, ...]
    seconds: NDArray[np.float64]

    @property
    def total(self) -> NDArray[np.float64]:
        """The weighted sum of each row's rewards, float64 [n]; NaN for a row that has none."""
        total = np.nansum(self.rewards * self.weights, axis=1)
        return np.where(np.isnan(self.rewards).all(axis=1), np.nan, total)


def score(
    verifiers: Sequence[Verifier],
    prompts: Sequence[Any],
    completions: Sequence[Completion],
    columns: Mapping[str, Sequence[Any]],
    *,
    workers: int | None = None,
    deadline_seconds: float = float("inf"),
    tell: Callable[[str], None] | None = None,
) -> Scores:
    """Score n completions by k verifiers.

    Args:
        verifiers: k of them.
        prompts: n, strings or messages; passed on to functions of the user's own.
        completions: n, strings or lists of messages.
        columns: the other columns of the data, n values each.
        workers: processes that each verifier may have at work; as many as cores by default.
        deadline_seconds: for everything together; what is not judged by then is NaN.
        tell: is called with each anomaly as it is found.

    Returns:
        Rewards, weights and anomalies.

    Raises:
        ValueError: when there are not as many prompts as completions.
    """
    count = len(completions)
    if len(prompts) != count:
        raise ValueError(f"{len(prompts)} prompts and {count} completions")
    anomalies: list[str] = []
    lock = threading.Lock()

    def note(line: str) -> None:
        with lock:
            anomalies.append(line)
        if tell is not None:
            tell(line)

    begun = time.monotonic()
    deadline = begun + deadline_seconds
    given = {**columns, "prompts": list(prompts)}
    budget = Budget(workers or available_workers(), deadline, note)
    rewards = np.full((count, len(verifiers)), np.nan)
    seconds = np.zeros(len(verifiers))

    def run(place: int) -> tuple[Rewards, float]:
        own = time.monotonic()
        return verifiers[place].rewards(completions, given, budget), time.monotonic() - own

    # A moment more than the verifiers' own deadline: they hand in what they have when it comes.
    grace = deadline + min(1.0, 0.1 * deadline_seconds)
    for place, done in enumerate(each(range(len(verifiers)), run, max(1, len(verifiers)), grace)):
        if done is None or done.result is None:
            why = "did not end before the deadline" if done is None else f"failed ({done.error})"
            note(f"verifier {verifiers[place].name} {why}; its rewards are left out")
            seconds[place] = time.monotonic() - begun
            continue
        found, seconds[place] = done.result
        rewards[:, place] = [np.nan if reward is None else reward for reward in found]
    weights = np.array([verifier.weight for verifier in verifiers], dtype=np.float64)
    return Scores(rewards, weights, tuple(v.name for v in verifiers), tuple(anomalies), seconds)
