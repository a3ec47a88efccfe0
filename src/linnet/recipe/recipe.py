"""A model's whole life in one file: what it is, what it reads, how each stage trains it.

The recipe is composed of the rooms' own sections; what is checked here is only what no
room can see alone (a sequence longer than the model's positions, a vocabulary that does
not fit).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import model_validator

from linnet.config import Layers, RequestError, Section, from_file, from_overrides, from_text, validate
from linnet.evaluate.settings import ScoreboardSettings
from linnet.hardware import HardwareSettings
from linnet.model import ModelSpec
from linnet.recipe.stages import (
    STAGES,
    AnyStage,
    ConversationStage,
    DomainStage,
    PreferenceStage,
    PretrainStage,
    RewardStage,
    SafetyStage,
    SftStage,
    StageName,
)
from linnet.text.settings import TRAINED, TokenizerField

VERSION = 1


class Recipe(Section):
    """Everything a run needs to know.

    `stages` picks which of the sections below are lived, in this order; by default all that are given, in
    the order of `STAGES`. Without `model` and `tokenizer` they are those of the first stage's `init_from`.
    """

    version: int = VERSION
    name: str
    description: str = ""
    seed: int = 1337
    stages: list[StageName] | None = None
    tokenizer: TokenizerField | None = None
    model: ModelSpec | None = None
    hardware: HardwareSettings = HardwareSettings()
    pretrain: PretrainStage | None = None
    sft: SftStage | None = None
    safety: SafetyStage | None = None
    dpo: PreferenceStage | None = None
    rlvr: RewardStage | None = None
    domain: DomainStage | None = None
    scoreboard: ScoreboardSettings = ScoreboardSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if not self.life:
            raise ValueError(f"there is no stage; give one of {', '.join(STAGES)}")
        for name in self.stages or ():
            if getattr(self, name) is None:
                raise ValueError(f"stages names {name}, and there is no such section")
        if len(set(self.life)) < len(self.life):
            raise ValueError("stages names a stage twice")
        first = self.life[0]
        fresh = self.stage(first).init_from is None
        if fresh and first != "pretrain":
            raise ValueError(
                f"{first} is the first stage and needs a model to begin with; set {first}.init_from"
            )
        if fresh and (self.model is None or self.tokenizer is None):
            missing = "model" if self.model is None else "tokenizer"
            raise ValueError(f"{missing!r} is missing; add it, or begin with a model by {first}.init_from")
        if fresh and self.stage(first).lora is not None:
            raise ValueError(f"{first}.lora adapts a model that is there, and {first} begins with fresh weights; "
                             f"leave it out, or set {first}.init_from")  # fmt: skip
        self._check_lengths()
        self._check_replay()
        self._check_safety()
        return self

    def _check_lengths(self) -> None:
        if self.model is None:
            return
        room = self.model.max_position_embeddings
        if self.life != ["pretrain"] and self.scoreboard.max_new_tokens >= room:
            raise ValueError(
                f"scoreboard.max_new_tokens {self.scoreboard.max_new_tokens} leaves no room for a question in "
                f"model.max_position_embeddings {room}; lower it"
            )
        for name in self.life:
            length = self.stage(name).data.sequence_length or room
            if length > room:
                raise ValueError(
                    f"{name}.data.sequence_length {length} is over model.max_position_embeddings {room}; "
                    "shorten the one or raise the other"
                )
        trained = self.tokenizer.vocab_size if self.tokenizer else None
        if self.tokenizer and self.tokenizer.name == TRAINED and trained and trained > self.model.vocab_size:
            raise ValueError(
                f"tokenizer.vocab_size {trained} is over model.vocab_size {self.model.vocab_size}; "
                "make the model's at least as large"
            )

    def _check_replay(self) -> None:
        for name in self.life if self.pretrain is None else ():
            stage = self.stage(name)
            if isinstance(stage, ConversationStage) and stage.replay and not stage.replay.sources:
                raise ValueError(
                    f"{name}.replay takes its documents from pretrain, and there is no such section; "
                    f"give {name}.replay.sources"
                )

    def _check_safety(self) -> None:
        stage = self.safety
        if stage and stage.ordinary_share and stage.ordinary is None and self.sft is None:
            raise ValueError(
                "safety.ordinary is missing: ordinary conversations beside the requests; "
                "add it, or set safety.ordinary_share to 0"
            )

    @property
    def life(self) -> list[StageName]:
        """The names of the stages that are lived, in order."""
        if self.stages is not None:
            return list(self.stages)
        return [name for name in STAGES if getattr(self, name) is not None]

    def lived(self, name: StageName) -> bool:
        """Whether a stage is one of this life."""
        return name in self.life

    def stage(self, name: StageName) -> AnyStage:
        """A stage's section.

        Raises:
            KeyError: when there is none.
        """
        found = getattr(self, name)
        if found is None:
            raise KeyError(name)
        return found


def document_stage(recipe: Recipe) -> PretrainStage:
    """The stage whose documents the verbs of `linnet data` are about: pretraining.

    Raises:
        RequestError: when the recipe has none.
    """
    if recipe.pretrain is None:
        raise RequestError("this recipe has no pretraining, so it has no documents", recipe.name,
                           "give a recipe with a pretrain section")  # fmt: skip
    return recipe.pretrain


def shipped() -> list[str]:
    """Names of the recipes that ship, smallest model first."""
    order = ["quickstart", "tinystories-30m", "smol-160m", "dense-180m", "smol-600m", "gpt2-1b", "slm-1.3b"]
    found = {item.name.removesuffix(".yaml") for item in _folder().iterdir() if item.name.endswith(".yaml")}
    return [name for name in order if name in found] + sorted(found - set(order))


def _folder():  # type: ignore[no-untyped-def]
    return resources.files("linnet.recipe") / "shipped"


def load_recipe(word: str, overrides: list[str] | None = None) -> Recipe:
    """A shipped recipe by name, or a recipe file, with KEY=VALUE laid over it.

    A file may begin from another recipe with `base: NAME`.

    Raises:
        RequestError: one line with the place and the mend.
    """
    layers = _laid_over(_layers(word), from_overrides(overrides or []))
    version = layers.values.get("version", VERSION)
    if isinstance(version, int) and version > VERSION:
        raise RequestError(f"this recipe is of version {version}, newer than this Linnet's {VERSION}",
                           layers.origin(("version",)), "update Linnet")  # fmt: skip
    return validate(Recipe, layers)


def _layers(word: str, seen: tuple[str, ...] = ()) -> Layers:
    if word in seen:
        raise RequestError(f"recipes build on each other in a circle: {' → '.join((*seen, word))}", word)
    path = Path(word).expanduser()
    if word in shipped():
        layers = from_text((_folder() / f"{word}.yaml").read_text(encoding="utf-8"), f"recipe {word}")
    elif path.suffix in (".yaml", ".yml") or path.is_file():
        layers = from_file(path)
    else:
        close = difflib.get_close_matches(word, shipped(), n=1, cutoff=0.4)
        mend = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(shipped())}"
        raise RequestError("there is no recipe of this name and no such file", word, mend)
    base = layers.values.pop("base", None)
    if base is not None:
        layers = _laid_over(_layers(str(base), (*seen, word)), layers)
    return layers


def _laid_over(below: Layers, above: Layers) -> Layers:
    """`above` over `below`, where some choices replace what they cannot live with.

    Naming another tokenizer replaces the whole section, its size included; naming sources replaces
    domains and their schedule, and domains replace sources.
    """
    before, chosen = below.values.get("tokenizer"), above.values.get("tokenizer")
    named_before = before.get("name") if isinstance(before, dict) else None
    if isinstance(chosen, dict) and named_before and chosen.get("name", named_before) != named_before:
        below = Layers({**below.values, "tokenizer": {}}, below.places)
    for stage in ("pretrain", "domain"):
        below = _without_replaced(below, above, stage)
    return below.over(above)


def _without_replaced(below: Layers, above: Layers, stage: str) -> Layers:
    data, chosen = (_section(layers.values, stage, "data") for layers in (below, above))
    gone = {"domains", "schedule"} if "sources" in chosen else set()
    gone |= {"sources"} if "domains" in chosen else set()
    if not gone & data.keys():
        return below
    kept = {name: value for name, value in data.items() if name not in gone}
    return Layers({**below.values, stage: {**below.values[stage], "data": kept}}, below.places)


def _section(values: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The section at a path, empty where there is none."""
    found: Any = values
    for name in path:
        found = found.get(name, {}) if isinstance(found, dict) else {}
    return found if isinstance(found, dict) else {}


def as_yaml(recipe: Recipe) -> str:
    """The recipe with every default filled in, as a recipe file.

    Of a `model` beside the first stage's `init_from` only what was set is written: what was not is the start's own.
    """
    values = recipe.model_dump(mode="json")
    if recipe.model is not None and recipe.stage(recipe.life[0]).init_from is not None:
        values["model"] = recipe.model.model_dump(mode="json", exclude_unset=True)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
