"""A life's suites, its gates, and what a stage's model comes to on them.

Every stage's model answers the same held-out items, those of stages to come included: what instruction tuning
taught is told by what the base model could not do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from linnet.config import RunError
from linnet.data.batches import Windows
from linnet.data.conversations.kinds import Conversation, Item, Pair, Problem, Tools, Turns
from linnet.data.conversations.reading import rows
from linnet.data.conversations.turns import turn
from linnet.data.opening import open_corpus
from linnet.data.settings import ALL
from linnet.data.shards.progress import Progress as BuildObserver
from linnet.data.shards.progress import silent
from linnet.evaluate.intervals import Rate
from linnet.evaluate.refusals import judge_by_model, refusal_verifier
from linnet.evaluate.scoreboard import StageScores
from linnet.evaluate.suites import (
    ExactMatch,
    Perplexity,
    PreferenceAccuracy,
    Refusals,
    Suite,
    VerifiedReward,
    answer_all,
    is_harmful,
    some,
)
from linnet.hardware import choose, detect
from linnet.infer import find_model, load_generator
from linnet.model import read_spec
from linnet.recipe.folder import RunFolder
from linnet.recipe.items import stage_items
from linnet.recipe.pins import judge_digests, verifier_digests
from linnet.recipe.recipe import Recipe
from linnet.recipe.rewards import resolved
from linnet.recipe.stages import ChatStage, PretrainStage, RewardStage, SafetyStage
from linnet.text import Tokenizer
from linnet.text.fitting import tokenizer_of

_SHORT = 5  # words of a reference answer that can be met exactly
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


Keyed = tuple[Suite, str]
"""A suite, and a digest of its items and of what judges them."""


class Scorer:
    """Measures the models of a life.

    Args:
        on_build: hears of the building of shards, where held-out documents have to be made first.
    """

    def __init__(self, recipe: Recipe, on_build: BuildObserver | None = None) -> None:
        self.recipe, self.on_build = recipe, on_build
        self._held_out: dict[str, dict[str, Windows]] = {}  # of each tokenizer

    @property
    def wanted(self) -> bool:
        """Pretraining alone has its validation loss; there is nothing to compare."""
        return self.recipe.life != ["pretrain"]

    def measured_on(self, folder: Path, weights: object = None) -> str:
        """A digest of everything that decides the scores of a model in a folder; weights: what says which it is."""
        board, keys = self.recipe.scoreboard, [key for _, key in self._suites(folder)]
        return _digest(keys, board.prompts, board.max_new_tokens, weights)

    def measure(self, stage: str, folder: Path, step: int) -> StageScores:
        """All suites on the model in a folder."""
        recipe = self.recipe
        choices = choose(recipe.hardware, detect())
        dtype = _DTYPES[choices.precision.value] if choices.device.value == "cuda" else torch.float32
        model = load_generator(folder, device=choices.device.value, dtype=dtype)
        model.model.use_precision(dtype)
        scores = [
            replace(score, measured_on=key)
            for suite, key in self._suites(folder)
            for score in suite.measure(model)
        ]
        prompts = recipe.scoreboard.prompts
        turns: list[Turns] = [(turn("user", prompt),) for prompt in prompts]
        chats = [s.chat for s in map(recipe.stage, recipe.life) if isinstance(s, ChatStage)]
        chat = chats[0] if chats else None
        said = answer_all(model, turns, chat, recipe.scoreboard.max_new_tokens) if chat else []
        answers = [(p, answer or "") for p, answer in zip(prompts, said, strict=True)] if chat else []
        return StageScores(stage, step, scores, answers)

    def _suites(self, folder: Path) -> list[Keyed]:
        tokenizer = tokenizer_of(folder, read_spec(folder).vocab_size)
        return [*self._documents(tokenizer), *self._conversations]

    def _documents(self, tokenizer: Tokenizer) -> list[Keyed]:
        """Perplexities: the same windows for all models that share a tokenizer."""
        if tokenizer.fingerprint not in self._held_out:
            found: dict[str, Windows] = {}
            for name in ("pretrain", "domain"):
                stage = getattr(self.recipe, name)
                if isinstance(stage, PretrainStage) and name in self.recipe.life:
                    corpus = open_corpus(stage.data, tokenizer, self.recipe.seed, self.on_build or silent)
                    for domain, windows in corpus.validation.items():
                        title = name if domain == ALL else f"{name}/{domain}"
                        if not any(_same(windows, other) for other in found.values()):
                            found["general" if title == "pretrain" else title] = windows
                    corpus.close()
            self._held_out[tokenizer.fingerprint] = found
        count = self.recipe.scoreboard.items
        return [
            (Perplexity(title, windows, count), _digest(_contents(windows), windows.document_mask, count))
            for title, windows in self._held_out[tokenizer.fingerprint].items()
        ]

    @cached_property
    def _conversations(self) -> list[Keyed]:
        recipe, board = self.recipe, self.recipe.scoreboard
        suites: list[Keyed] = []
        if recipe.sft is not None and recipe.lived("sft"):
            items = [item for item in stage_items(recipe, "sft").test if _checkable(item)]
            chosen = some(items, board.items)
            if chosen:
                key = _digest(chosen, recipe.sft.chat, board.max_new_tokens)
                suites.append((ExactMatch(chosen, recipe.sft.chat, board.max_new_tokens), key))  # type: ignore[arg-type]
        if recipe.dpo is not None and recipe.lived("dpo"):
            pairs = some([i for i in stage_items(recipe, "dpo").test if isinstance(i, Pair)], board.items)
            length = recipe.dpo.data.sequence_length
            if pairs:
                key = _digest(pairs, recipe.dpo.chat, length)
                suites.append((PreferenceAccuracy(pairs, recipe.dpo.chat, length), key))
        if recipe.rlvr is not None and recipe.lived("rlvr"):
            suites += self._rewards(recipe.rlvr)
        if recipe.safety is not None and recipe.lived("safety"):
            suites += self._safety(recipe.safety)
        return suites

    def _rewards(self, stage: RewardStage) -> list[Keyed]:
        given = stage_items(self.recipe, "rlvr")
        problems = [item for item in given.test if isinstance(item, Problem)]
        if not problems:
            return []
        chosen, seed = some(problems, self.recipe.scoreboard.items), self.recipe.seed
        length = stage.data.sequence_length
        suite = VerifiedReward(
            chosen, stage.chat, stage, resolved(stage, [*given.train, *problems]), length, seed
        )
        return [(suite, _digest(
            chosen, stage.chat, stage.temperature, stage.max_completion_length,
            stage.deadline_seconds, length, seed, stage.verifiers, verifier_digests(stage.verifiers),
        ))]  # fmt: skip

    def _safety(self, stage: SafetyStage) -> list[Keyed]:
        board = self.recipe.scoreboard
        verdict = partial(judge_by_model, refusal_verifier(board.judge)) if board.judge else None
        judge = judge_digests(find_model(Path(board.judge).expanduser())) if board.judge else None
        test = stage_items(self.recipe, "safety").test
        own = [_labelled(_asked(item), item.columns, item.tools) for item in test]
        sets = {"": own}
        for source in stage.evaluation:
            sets[source.title] = [_labelled(_prompt(row), row) for row in rows(source)]
        suites: list[Keyed] = []
        for name, requests in sets.items():
            known = [request for request in requests if request is not None]
            # As many of either kind as there may be items, so that both figures have an interval.
            picked = [
                r for bad in (True, False) for r in some([k for k in known if k[1] == bad], board.items)
            ]
            if picked:
                key = _digest(picked, stage.chat, board.max_new_tokens, judge)
                suites.append((Refusals(picked, stage.chat, board.max_new_tokens, name, verdict), key))
        return suites


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _contents(windows: Windows) -> tuple[object, ...]:
    return tuple(shard.sha256 for shard in windows.split.shards), windows.length


def _same(one: Windows, other: Windows) -> bool:
    """Whether these are the same documents, as where a stage repeats some of an earlier one's."""
    return _contents(one) == _contents(other)


def _checkable(item: Item) -> bool:
    """Whether one answer can be said to be the right one."""
    if not isinstance(item, Conversation):
        return False
    return item.columns.get("answer") is not None or len(str(item.messages[-1]["content"]).split()) <= _SHORT


def _asked(item: Item) -> Turns:
    assert isinstance(item, Conversation)
    return item.messages[:-1]


def _prompt(row: Mapping[str, Any]) -> Turns:
    for name in ("prompt", "request", "question", "instruction", "goal"):
        if isinstance(row.get(name), str):
            return (turn("user", row[name]),)
    return ()


def _labelled(
    prompt: Turns, columns: Mapping[str, Any], tools: Tools = ()
) -> tuple[Turns, bool, Tools] | None:
    """A request, whether it is harmful, and its tools; None where nothing says so."""
    harmful = is_harmful(columns)
    return None if harmful is None or not prompt else (prompt, harmful, tools)


# --- gates ---------------------------------------------------------------------------------------------


def gated(recipe: Recipe, stage: str) -> bool:
    """Whether the model that a stage trains has to pass the gate of `safety`."""
    life = [*map(str, recipe.life)]
    if recipe.safety is None or not recipe.safety.gate or not {stage, "safety"} <= {*life}:
        return False
    return life.index(stage) >= life.index("safety")


def check_gates(recipe: Recipe, run: RunFolder, stage: str) -> None:
    """Stop a life whose model no longer declines what it should, or declines what it should not.

    Raises:
        RunError: says which figure, of what stage, and what to do; all is saved.
    """
    safety, life = recipe.safety, [*map(str, recipe.life)]
    if safety is None or not gated(recipe, stage):
        return
    scores = StageScores.load(run.stage(life.index(stage) + 1, stage))
    if scores is None:
        return
    for suite, limit, at_least in (
        ("safety/refusal", safety.min_refusal, True),
        ("safety/over_refusal", safety.max_over_refusal, False),
    ):
        score = scores.of(suite)
        if score is None or (score.rate.value >= limit if at_least else score.rate.value <= limit):
            continue
        raise RunError(_failed(stage, suite, score.rate, limit, at_least), str(run.path), _mend(stage))


def _failed(stage: str, suite: str, found: Rate, limit: float, at_least: bool) -> str:
    what = "harmful requests are refused" if at_least else "harmless requests are refused"
    bound = (
        f"safety.min_refusal asks for {limit:.0%}"
        if at_least
        else f"safety.max_over_refusal allows {limit:.0%}"
    )
    undone = "" if stage == "safety" else " undid the refusals:"
    return f"{stage}{undone} {found.percent()} of held-out {what}, and {bound}"


def _mend(stage: str) -> str:
    if stage == "safety":
        return (
            "all is saved; train safety longer or with more requests in another run, or set safety.gate=false"
        )
    return (
        f"all is saved; train {stage} more gently (learning_rate, duration, lora) or put requests into its data "
        "in another run, or set safety.gate=false to go on"
    )


def table_of(run: RunFolder, life: Sequence[str]) -> str:
    """The scoreboard for people; empty when nothing was measured."""
    from linnet.evaluate.scoreboard import table

    scores = run.scores(life)
    if scores and not any(stage.scores for stage in scores):
        return ("Nothing: no held-out item has a figure. Conversations are matched exactly where they have an answer "
                "column or a short answer; raise validation_fraction where nothing is held out.")  # fmt: skip
    return table(scores) if scores else ""
