"""What a person should know of a round of rollouts: its metrics, and lines where something is amiss.

The loss of a policy gradient says nothing, so these are what a run is watched by. What holds on for long is
told at its 1st, 10th, 100th … time and not at every one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from linnet.objectives.reward.evaluation import mean, pass_at_k
from linnet.objectives.reward.losses import equal_groups
from linnet.objectives.reward.rollouts import Rollouts, solved
from linnet.objectives.reward.suspects import lines, suspects, well_rewarded
from linnet.objectives.verifiers import Verifier

_MUCH = 0.5  # of completions cut off, or of groups without a difference


def metrics(rollouts: Rollouts, verifiers: Sequence[Verifier]) -> dict[str, float]:
    """Of prompts as they were drawn: further ones, chosen for their spread, would flatter or belittle the model."""
    rewards, each = rollouts.rewards, rollouts.each
    judged = rewards[~np.isnan(rewards)]
    right = solved(each, verifiers)
    tries = right.shape[1]
    found = {
        "rlvr/reward": mean(rewards),
        "rlvr/reward_std": float(judged.std(ddof=1)) if judged.size > 1 else 0.0,
        f"rlvr/pass_at_{tries}": float(np.mean([pass_at_k(tries, int(n), tries) for n in right.sum(1)])),
        "rlvr/length": float(rollouts.lengths.mean()),
        "rlvr/truncated": float(rollouts.truncated.mean()),
        "rlvr/unjudged": float(np.isnan(rewards).mean()),
        "rlvr/equal_groups": float(equal_groups(torch.from_numpy(rewards)).double().mean()),
    }
    found |= {f"rlvr/reward/{v.name}": mean(each[..., place]) for place, v in enumerate(verifiers)}
    if tricks := well_rewarded(rollouts.groups):
        found["rlvr/suspects"] = len(suspects(rollouts.groups, verifiers)) / tricks
    return {name: value for name, value in found.items() if value == value}


class News:
    """Lines of one round after another; `collect` hands out what has come since."""

    def __init__(self, verifiers: Sequence[Verifier], mask_truncated: bool) -> None:
        self.verifiers, self.mask_truncated = verifiers, mask_truncated
        self._waiting: list[str] = []
        self._times: Counter[str] = Counter()

    def collect(self) -> list[str]:
        """All lines, once."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def add(self, line: str) -> None:
        """A line as it is."""
        self._waiting.append(line)

    def mismatch(self, kl: float) -> None:
        """The model that is trained does not give its own rollouts the probabilities they were drawn with."""
        self._now_and_then(
            "mismatch", True,
            f"right after rollouts training and sampling differ by a KL of {kl:.2g} a token: ratios are not to be "
            "trusted; try hardware.precision=fp32",
        )  # fmt: skip

    def hear(self, rollouts: Rollouts, equal: int, refilled: int) -> None:
        """Look at a round.

        Args:
            equal: groups, of those that are learned from, without a difference.
            refilled: groups of further prompts among them.
        """
        self._waiting += rollouts.anomalies
        self._groups(rollouts, equal, refilled)
        cut = float(rollouts.truncated.mean())
        fate = "left out of the loss" if self.mask_truncated else "learned without an end"
        self._now_and_then(
            "truncated", cut > _MUCH,
            f"{cut:.0%} of the completions were cut off at max_completion_length and are {fate}; raise it",
        )  # fmt: skip
        unjudged = float(np.isnan(rollouts.rewards).mean())
        self._now_and_then(
            "unjudged", unjudged > 0,
            f"{unjudged:.1%} of the completions could not be judged; they count neither as right nor as wrong",
        )  # fmt: skip
        found = suspects(rollouts.groups, self.verifiers)
        for why in dict.fromkeys(suspect.why for suspect in found):
            these = [suspect for suspect in found if suspect.why == why]
            self._now_and_then(why, True, lines(these)[0])

    def _groups(self, rollouts: Rollouts, equal: int, refilled: int) -> None:
        count, rewards = len(rollouts.groups), rollouts.rewards
        values = np.unique(rewards[~np.isnan(rewards)])
        same = f": every reward is {values[0]:.3g}" if len(values) == 1 else ""
        self._now_and_then(
            "all equal", equal == count,
            f"all {count} groups have equal rewards and teach nothing{same}; give problems that are solved "
            "sometimes, or raise temperature or num_generations",
        )  # fmt: skip
        after = f" after {refilled} were replaced" if refilled else ""
        self._now_and_then(
            "many equal", _MUCH * count <= equal < count,
            f"{equal} of {count} groups have equal rewards{after} and teach nothing; dynamic_sampling replaces them",
        )  # fmt: skip

    def _now_and_then(self, key: str, holds: bool, line: str) -> None:
        if not holds:
            return
        self._times[key] += 1
        times = str(self._times[key])
        if times.strip("0") == "1":
            self._waiting.append(line if times == "1" else f"{line} (for the {times}th time)")
