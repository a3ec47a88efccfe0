"""What a stage's sources give: conversations, pairs or problems, learned and held out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

from linnet.config import RequestError
from linnet.data.conversations.collection import Collection, collect_items, shares_of
from linnet.data.conversations.kinds import Item, Kind
from linnet.data.conversations.reading import WORLDS, World, collect, rows
from linnet.evaluate.suites import is_harmful
from linnet.recipe.recipe import Recipe
from linnet.recipe.stages import ChatStage, SafetyStage, StageName

KINDS: dict[StageName, Kind] = {
    "sft": "conversation", "safety": "conversation", "dpo": "pair", "rlvr": "problem",
}  # fmt: skip


def stage_items(recipe: Recipe, name: StageName) -> Collection:
    """The items of a stage, learned and held out.

    Raises:
        RequestError: as `collect_items`.
    """
    stage = recipe.stage(name)
    assert isinstance(stage, ChatStage)
    world: World | None = "request" if name == "safety" else None
    items = collect_items(stage.data, KINDS[name], recipe.seed, world)
    if not isinstance(stage, SafetyStage):
        return items
    _check_labels(items, stage.gate)
    if not stage.ordinary_share:
        return items
    settings = stage.ordinary or (recipe.sft.data if recipe.sft else None)
    assert settings is not None
    ordinary = collect_items(settings, "conversation", recipe.seed)
    parts, notes = shares_of(
        [("requests", items.train), ("ordinary conversations", ordinary.train)],
        [1 - stage.ordinary_share, stage.ordinary_share], recipe.seed,
    )  # fmt: skip
    return replace(
        items,
        gathered=[*items.gathered, *ordinary.gathered],
        train=[item for part in parts for item in part],
        notes=(*items.notes, *ordinary.notes, *notes),
    )


def _check_labels(requests: Collection, gate: bool) -> None:
    """Refuse requests whose labels say nothing, and a gate that would have nothing to measure.

    Raises:
        RequestError: says which label, or which kind of request is not held out.
    """
    known = {bad: [is_harmful(item.columns) is bad for item in requests.train] for bad in (True, False)}
    labels = Counter(
        str(item.columns["label"])
        for item in (*requests.train, *requests.test)
        if item.columns.get("label") is not None and is_harmful(item.columns) is None
    )
    if labels and (gate or any(map(any, known.values()))):
        label, count = labels.most_common(1)[0]
        raise RequestError(
            f"the label of {count:,} requests is {label!r}; known are harmful and harmless, unsafe and safe",
            "safety.data", "mend them, or say it by source, as columns: {label: harmful}",
        )  # fmt: skip
    for bad, title in ((True, "harmful"), (False, "harmless")):
        wanted = gate and (bad or any(known[bad]))
        if wanted and not any(is_harmful(item.columns) is bad for item in requests.test):
            raise RequestError(
                f"none of the {len(requests.test):,} requests that are held out is labelled as {title}, so the gate "
                "would have nothing to go by", "safety.data",
                "raise validation_fraction, give validation_sources, or set safety.gate=false",
            )  # fmt: skip


_AHEAD = 200  # rows of a source that are looked at


def first_items(recipe: Recipe, name: StageName) -> list[Item]:
    """What the first rows of a stage's sources give."""
    stage = recipe.stage(name)
    assert isinstance(stage, ChatStage)
    sets = [(stage.data, "request" if name == "safety" else None)]
    if isinstance(stage, SafetyStage) and stage.ordinary is not None:
        sets.append((stage.ordinary, None))
    found: list[Item] = []
    for settings, world in sets:
        for source in (*settings.sources, *settings.validation_sources):
            some = islice(rows(source, "train", world or WORLDS[KINDS[name]]), _AHEAD)  # type: ignore[arg-type]
            found += collect(some, KINDS[name], source.title).items
    return found
