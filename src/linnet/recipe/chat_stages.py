"""Stages that learn from what is said: made ready when their turn comes, and looked at before the life begins."""

from __future__ import annotations

from functools import partial

from linnet.config import RequestError
from linnet.data.conversations.preflight import look_over
from linnet.data.conversations.reading import rows
from linnet.data.settings import DataSettings
from linnet.data.shards.progress import Progress as BuildObserver
from linnet.data.shards.ready import places_of
from linnet.data.sources.files import files_of
from linnet.evaluate.suites import is_harmful
from linnet.model import lora
from linnet.recipe.asked import renderer_of, user_prompts
from linnet.recipe.conversations import prepare_conversations
from linnet.recipe.items import KINDS, first_items
from linnet.recipe.pairs import prepare_pairs
from linnet.recipe.recipe import Recipe
from linnet.recipe.rewards import prepare_problems, resolved
from linnet.recipe.sampling import check_prompts, document_prompts
from linnet.recipe.stages import ChatStage, ConversationStage, RewardStage, SafetyStage, StageName
from linnet.recipe.starts import check_start
from linnet.recipe.work import Show, Start, Work


def prepare(
    recipe: Recipe, name: StageName, start: Start, show: Show, on_build: BuildObserver | None = None
) -> Work:
    """Read, render and look over what a stage learns from.

    Args:
        on_build: hears of the building of shards, where documents are replayed that have none yet.

    Raises:
        RequestError: when a source cannot be read or gives nothing of what the stage learns from, or what
            it gives is not what it should be.
    """
    kind = KINDS[name]
    if kind == "problem":
        return prepare_problems(recipe, start, show)
    if kind == "pair":
        return prepare_pairs(recipe, start, show)
    return prepare_conversations(recipe, name, start, show, on_build)


def check_ahead(recipe: Recipe, name: StageName, start: Start) -> Start:
    """Refuse now what a later stage would refuse when its turn comes, as far as the first rows tell.

    Args:
        start: what the stage before begins with: tokenizer and positions are handed on.

    Returns:
        What this stage begins with, as far as it is known.

    Raises:
        RequestError: a source that is not there or gives nothing of what the stage learns from, a verifier
            that cannot be had, a template that is none.
    """
    stage = recipe.stage(name)
    if stage.init_from is not None:
        start = check_start(recipe, name)
    if stage.lora is not None:
        lora.targets(start.spec, stage.lora)
    if not isinstance(stage, ChatStage):
        _check_documents(stage.data)
        check_prompts(name, stage, start.spec, partial(document_prompts, start.tokenizer))
        return start
    if isinstance(stage, ConversationStage) and stage.replay is not None:
        pretrain = recipe.pretrain.data if recipe.pretrain else None
        _check_documents(stage.replay.data(pretrain, renderer_of(recipe, name, start).max_length))
    items = first_items(recipe, name)
    if name == "rlvr":
        resolved(stage, items)
        assert isinstance(stage, RewardStage)
        renderer = renderer_of(recipe, name, start, stage.max_completion_length)
        check_prompts(name, stage, start.spec, partial(user_prompts, renderer))
        return start
    if isinstance(stage, SafetyStage) and stage.gate and not any(is_harmful(item.columns) for item in items):
        raise RequestError(
            "none of the first requests has a label (harmful, harmless), so the gate would have nothing to go by",
            f"{name}.data", "say it by source, as columns: {label: harmful}, or set safety.gate=false",
        )  # fmt: skip
    if isinstance(stage, SafetyStage):
        for source in stage.evaluation:
            next(rows(source), None)
    renderer = renderer_of(recipe, name, start)
    check_prompts(name, stage, start.spec, partial(user_prompts, renderer))
    render = renderer.pairs if KINDS[name] == "pair" else renderer.conversations
    look_over((), renderer, items, render(items)).check(stage.preflight, f"{name}.data")  # type: ignore[arg-type]
    return start


def _check_documents(data: DataSettings) -> None:
    """Refuse sources of documents that are not there."""
    ready = places_of(data)
    for source in (*data.all_sources, *data.validation_sources):
        if source.title not in ready:
            files_of(source)
