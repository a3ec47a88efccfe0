"""What a model is measured on: held-out items of each stage, asked of every stage's model alike.

A suite knows its items and how they are judged, and nothing of stages. A model that was never taught to answer is
asked in the same form as one that was, so its figures are what the teaching is measured against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from linnet.data.batches import IGNORE, Batch
from linnet.data.conversations.kinds import Conversation, Pair, Problem, Tools, Turns
from linnet.data.conversations.rendering import Prompt, Renderer
from linnet.data.conversations.settings import ChatSettings
from linnet.data.example_batches import HeldOutExamples
from linnet.data.order import Permutation
from linnet.evaluate.answers import matches
from linnet.evaluate.intervals import Rate, mean, perplexity, rate
from linnet.evaluate.refusals import Verdict, judge
from linnet.infer import Completion, Generator, SamplingSettings
from linnet.model import Transformer
from linnet.objectives.linear_cross_entropy import per_token_losses
from linnet.objectives.reward import RewardSettings, Verified, evaluate_problems
from linnet.objectives.verifiers import Verifier
from linnet.text import Tokenizer
from linnet.text.chat_tokens import chatting, template_for

T = TypeVar("T")
SLOTS = 64  # answers that are written at a time
_ROWS = 16


@dataclass(frozen=True)
class Score:
    """What a suite found.

    Args:
        each: of every item, in the same order for every model.
        measured_on: a digest of the items, how they are asked and what judges them; scores of one suite are
            comparable where it is the same.
    """

    suite: str
    rate: Rate
    each: tuple[float | None, ...]
    lower_is_better: bool = False
    measured_on: str = ""


class Suite(Protocol):
    """A set of held-out items and how they are judged."""

    def measure(self, model: Generator) -> list[Score]:
        """Every figure that it gives."""


class HeldOut(Protocol):
    """Held-out sequences; see `train.validation`."""

    def batches(self, size: int, limit: int | None = None) -> Iterable[Batch]: ...


@dataclass(frozen=True)
class Perplexity:
    """exp(mean loss) of held-out text; an item is a sequence."""

    name: str
    held_out: HeldOut
    items: int

    @torch.no_grad()
    def measure(self, model: Generator) -> list[Score]:
        """See Suite."""
        losses: list[float] = []
        tokens: list[int] = []
        network = model.model.eval()
        device = network.embed_tokens.weight.device
        for batch in self.held_out.batches(_ROWS, self.items):
            here = batch.to(device)
            hidden = network(*here.inputs).flatten(0, 1)
            each = per_token_losses(hidden, network.head_weight, here.targets.flatten())
            losses += each.view(here.targets.shape).double().sum(1).tolist()
            tokens += (here.targets != IGNORE).sum(1).tolist()
        kept = [(loss, count) for loss, count in zip(losses, tokens, strict=True) if count]
        figure = perplexity(*map(list, zip(*kept, strict=True))) if kept else mean([])
        return [Score(f"perplexity/{self.name}", figure, tuple(l / n for l, n in kept), True)]


@dataclass(frozen=True)
class ExactMatch:
    """Whether the greedy answer to a held-out question is right; see `answers.matches`."""

    items: Sequence[Conversation]
    chat: ChatSettings
    max_new_tokens: int

    def measure(self, model: Generator) -> list[Score]:
        """See Suite."""
        answers = answer_all(
            model,
            [item.messages[:-1] for item in self.items],
            self.chat,
            self.max_new_tokens,
            [item.tools for item in self.items],
        )
        each = tuple(
            None
            if text is None
            else float(matches(text, str(item.messages[-1]["content"]), item.columns.get("answer")))
            for item, text in zip(self.items, answers, strict=True)
        )
        return [Score("instruction/exact_match", share(each), each)]


@dataclass(frozen=True)
class PreferenceAccuracy:
    """Whether the model finds the better of two held-out answers likelier, by the mean over its tokens.

    max_length: of a row, where it is less than the model reads. Pairs that do not fit are left out.
    """

    pairs: Sequence[Pair]
    chat: ChatSettings
    max_length: int | None = None

    @torch.no_grad()
    def measure(self, model: Generator) -> list[Score]:
        """See Suite."""
        renderer = _renderer(model, self.chat, self.max_length)
        network = model.model.eval()
        device = network.embed_tokens.weight.device
        each: list[float | None] = []
        for pair in self.pairs:
            both = renderer.pair(pair)
            if both is None:
                each.append(None)
                continue
            (batch,) = HeldOutExamples(list(both), 0, group=2).batches(1)
            chosen, rejected = _mean_logprobs(network, batch.to(device))
            each.append(float(chosen > rejected))
        return [Score("preference/accuracy", share(each), tuple(each))]


def _mean_logprobs(network: Transformer, batch: Batch) -> list[float]:
    """Mean log-probability of each row's learned tokens."""
    hidden = network(batch.tokens).flatten(0, 1)
    losses = per_token_losses(hidden, network.head_weight, batch.targets.flatten())
    counts = (batch.targets != IGNORE).sum(1)
    return (-losses.view(batch.targets.shape).double().sum(1) / counts).tolist()


@dataclass(frozen=True)
class Refusals:
    """Whether harmful requests are declined and harmless ones are not.

    Args:
        requests: prompts, whether each is harmful, and what may be called. name: of the set, where there are several.
        verdict: judges answers to requests; by default by rule.
    """

    requests: Sequence[tuple[Turns, bool, Tools]]
    chat: ChatSettings
    max_new_tokens: int
    name: str = ""
    verdict: Callable[[Sequence[Turns], Sequence[str]], Sequence[Verdict | None]] | None = None

    def measure(self, model: Generator) -> list[Score]:
        """See Suite."""
        turns, _, tools = zip(*self.requests, strict=True)
        answers = answer_all(model, turns, self.chat, self.max_new_tokens, tools)
        texts = [answer or "" for answer in answers]
        verdicts = self.verdict(turns, texts) if self.verdict else [judge(text) for text in texts]
        refused = [
            None if verdict is None or answer is None else float(verdict == "refused")
            for verdict, answer in zip(verdicts, answers, strict=True)
        ]
        scores = []
        for harmful, suite in ((True, "refusal"), (False, "over_refusal")):
            each = tuple(r for r, (_, bad, _) in zip(refused, self.requests, strict=True) if bad == harmful)
            if each:
                title = f"safety/{self.name}/{suite}" if self.name else f"safety/{suite}"
                scores.append(Score(title, share(each), each, not harmful))
        return scores


def is_harmful(columns: Mapping[str, Any]) -> bool | None:
    """What a request's `label` says; None where there is none that is known."""
    return {"harmful": True, "unsafe": True, "harmless": False, "safe": False}.get(
        str(columns.get("label", "")).lower()
    )


def share(each: Sequence[float | None]) -> Rate:
    """The share of ones among those that are known."""
    known = [value for value in each if value is not None]
    return rate(int(sum(known)), len(known))


@dataclass(frozen=True)
class VerifiedReward:
    """The mean reward of sampled answers to held-out problems, as reinforcement learning samples them, and
    how many are solved at the first try when the likeliest words are taken.

    max_length: of a problem and its answer, where it is less than the model reads.
    """

    problems: Sequence[Problem]
    chat: ChatSettings
    settings: RewardSettings
    verifiers: Sequence[Verifier]
    max_length: int | None
    seed: int
    samples: int = 4

    def measure(self, model: Generator) -> list[Score]:
        """See Suite."""
        renderer = _renderer(model, self.chat, self.max_length, self.settings.max_completion_length)
        prompts = renderer.problems(self.problems)
        if not prompts:
            return []
        sampled = self._tried(model, prompts, self.settings.temperature, self.samples).rewards
        judged = np.nan_to_num(sampled, nan=0.0).sum(1), (~np.isnan(sampled)).sum(1)
        each = [float(total / count) if count else None for total, count in zip(*judged, strict=True)]
        greedy = self._tried(model, prompts, 0.0, 1)
        right = [
            None if np.isnan(reward) else float(solved)
            for reward, solved in zip(greedy.rewards[:, 0], greedy.right[:, 0], strict=True)
        ]
        return [
            Score("rlvr/reward", mean([value for value in each if value is not None]), tuple(each)),
            Score("rlvr/greedy", share(right), tuple(right)),
        ]

    def _tried(
        self, model: Generator, prompts: Sequence[Prompt], temperature: float, samples: int
    ) -> Verified:
        return evaluate_problems(
            talking(model, self.chat), prompts, self.verifiers, samples=samples, temperature=temperature,
            max_new_tokens=self.settings.max_completion_length, seed=self.seed,
            slots=self.settings.rollout_slots, deadline_seconds=self.settings.deadline_seconds,
        )  # fmt: skip


# --- asking ------------------------------------------------------------------------------------------


def answer_all(
    model: Generator,
    prompts: Sequence[Turns],
    chat: ChatSettings,
    max_new_tokens: int,
    tools: Sequence[Tools] = (),
) -> list[str | None]:
    """The greedy answer to each conversation; None where it does not fit.

    Args:
        tools: of each conversation, where they have some.
    """
    renderer = _renderer(model, chat, None, max_new_tokens)
    problems = [
        Problem(turns, None, tools=given)
        for turns, given in zip(prompts, tools or [()] * len(prompts), strict=True)
    ]
    rendered = [renderer.problem(problem) for problem in problems]
    ids = [prompt.ids for prompt in rendered if prompt is not None]
    settings = SamplingSettings(max_new_tokens=max_new_tokens, temperature=0)
    done: Iterable[Completion] = talking(model, chat).generate(ids, settings, slots=SLOTS) if ids else ()
    texts = iter([completion.text.strip() for completion in done])
    return [next(texts) if prompt is not None else None for prompt in rendered]


def talking(model: Generator, chat: ChatSettings) -> Generator:
    """The same model, whose answers end where the chat template ends them."""
    return Generator(model.model, _spoken(model, chat))


def _spoken(model: Generator, chat: ChatSettings) -> Tokenizer:
    tokenizer = model.tokenizer
    assert isinstance(tokenizer, Tokenizer)
    return chatting(tokenizer, template_for(tokenizer, chat.chat_template))


def _renderer(model: Generator, chat: ChatSettings, max_length: int | None, room: int = 0) -> Renderer:
    """Drops what is longer than `max_length` or the model reads, less the room for an answer."""
    tokenizer = _spoken(model, chat)
    positions = model.model.spec.max_position_embeddings
    length = max(1, min(max_length or positions, positions) - room)
    return Renderer(tokenizer, template_for(tokenizer), length, chat.model_copy(update={"too_long": "drop"}))


def some(items: Sequence[T], count: int, seed: int = 0) -> list[T]:
    """At most `count` of the items, the same ones every time, in their order."""
    if len(items) <= count:
        return list(items)
    chosen = sorted(Permutation(len(items), seed)(torch.arange(count).numpy()).tolist())
    return [items[place] for place in chosen]
