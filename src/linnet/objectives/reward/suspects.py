"""Completions that may have earned their reward by a trick: looked for by cheap rules, to be read by a person.

A policy finds what a verifier overlooks long before the mean reward shows it: it lists several answers and
lets one of them be found, repeats itself to fill a length, stops thinking, or pleases one verifier
against another. The rules are crude on purpose. They judge nothing and change no reward: they pick
examples, and a rise in their share is the sign to look for.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from linnet.objectives.reward.rollouts import Group
from linnet.objectives.verifiers import Verifier

_FACTOR = 4  # that much shorter or longer than the middle of its group
_LONG = 24  # tokens from which a difference in length means something
_WORDY, _DENSITY = (
    200,
    0.2,
)  # characters that compress to less than this share repeat themselves; prose: 0.4-0.7
_EXCERPT = 100
_SAID = re.compile(
    r"\\boxed\{([^{}]*)\}|<answer>(.*?)</answer>|\b(?:answer|result)\b(?: is|:| =)\s*([^\s,;]+)",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Suspect:
    """A well-rewarded completion, and why it should be read."""

    why: str
    reward: float
    text: str

    def __str__(self) -> str:
        shown = " ".join(self.text.split())
        if len(shown) > _EXCERPT:
            shown = f"{shown[: _EXCERPT // 2]} … {shown[-_EXCERPT // 2 :]}"
        return f"a completion with reward {self.reward:.3g} {self.why}: {shown!r}"


def suspects(groups: Sequence[Group], verifiers: Sequence[Verifier]) -> list[Suspect]:
    """Those completions that are better rewarded than the middle between the least and the most of all, and
    that one of the rules below finds; each once, under the first rule."""
    rewards = np.array([group.rewards for group in groups])
    judged = rewards[~np.isnan(rewards)]
    if not judged.size or judged.max() <= judged.min():
        return []
    high = (judged.max() + judged.min()) / 2
    found = []
    for group in groups:
        middle = float(np.median([len(completion.ids) for completion in group.completions]))
        for place, completion in enumerate(group.completions):
            if not group.rewards[place] > high:
                continue
            why = (
                _against(group.each[place], verifiers)
                or _several_answers(completion.text)
                or _repeats(completion.text)
                or _other_length(len(completion.ids), middle)
            )
            if why:
                found.append(Suspect(why, float(group.rewards[place]), completion.text))
    return found


def well_rewarded(groups: Sequence[Group]) -> int:
    """How many completions are rewarded so well that a rule is asked about them."""
    rewards = np.array([group.rewards for group in groups])
    judged = rewards[~np.isnan(rewards)]
    return int((judged > (judged.max() + judged.min()) / 2).sum()) if judged.size else 0


def lines(found: Sequence[Suspect], most: int = 3) -> list[str]:
    """One example of each of the commonest reasons, with how often it was found."""
    reasons = Counter(suspect.why for suspect in found).most_common(most)
    first = {suspect.why: suspect for suspect in reversed(found)}
    return [f"{first[why]}" + (f" (one of {count} such)" if count > 1 else "") for why, count in reasons]


def _against(each: np.ndarray, verifiers: Sequence[Verifier]) -> str:
    """One verifier is content and another, that also judges what is said, gives nothing."""
    judging = [
        (verifier.name, reward)
        for verifier, reward in zip(verifiers, each.tolist(), strict=True)
        if verifier.weight > 0 and verifier.settings.word != "format" and reward == reward
    ]
    yes = next((name for name, reward in judging if reward > 0.5), "")
    no = next((name for name, reward in judging if reward <= 0), "")
    return f"pleases {yes} and not {no}" if yes and no else ""


def _several_answers(text: str) -> str:
    """It states three different answers or more."""
    said = {next(filter(None, match.groups()), "").strip(" .$*").lower() for match in _SAID.finditer(text)}
    return "states several answers" if len(said - {""}) >= 3 else ""


def _repeats(text: str) -> str:
    """It can be said in a fraction of its bytes."""
    written = text.encode("utf-8", "replace")
    dense = len(written) < _WORDY or len(zlib.compress(written)) > _DENSITY * len(written)
    return "" if dense else "repeats itself"


def _other_length(tokens: int, middle: float) -> str:
    """It is a fraction of its group's length, or a multiple."""
    if middle >= _LONG and tokens * _FACTOR <= middle:
        return "is much shorter than its group"
    return "is much longer than its group" if tokens >= max(_LONG, _FACTOR * middle) else ""
