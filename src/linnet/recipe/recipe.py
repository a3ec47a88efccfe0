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
from linnet.data.settings import DataSettings
from linnet.hardware import HardwareSettings
from linnet.model import ModelSpec
from linnet.text.settings import TRAINED, TokenizerField
from linnet.train import TrainSettings

VERSION = 1


class PretrainStage(TrainSettings):
    """Next-token prediction on documents, from fresh weights or from `init_from`.

    `init_from` is a checkpoint, or the folder of a stock model of the recipe's shape.
    """

    data: DataSettings
    init_from: str | None = None


class Recipe(Section):
    """Everything a run needs to know."""

    version: int = VERSION
    name: str
    description: str = ""
    seed: int = 1337
    tokenizer: TokenizerField
    model: ModelSpec
    hardware: HardwareSettings = HardwareSettings()
    pretrain: PretrainStage

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        length, room = self.pretrain.data.sequence_length, self.model.max_position_embeddings
        if length > room:
            raise ValueError(
                f"pretrain.data.sequence_length {length} is over model.max_position_embeddings {room}; "
                "shorten the one or raise the other"
            )
        trained = self.tokenizer.vocab_size
        if self.tokenizer.name == TRAINED and trained and trained > self.model.vocab_size:
            raise ValueError(
                f"tokenizer.vocab_size {trained} is over model.vocab_size {self.model.vocab_size}; "
                "make the model's at least as large"
            )
        return self


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
    data, chosen_data = (_section(layers.values, "pretrain", "data") for layers in (below, above))
    gone = {"domains", "schedule"} if "sources" in chosen_data else set()
    gone |= {"sources"} if "domains" in chosen_data else set()
    if gone & data.keys():
        kept = {name: value for name, value in data.items() if name not in gone}
        stage = {**below.values["pretrain"], "data": kept}
        below = Layers({**below.values, "pretrain": stage}, below.places)
    return below.over(above)


def _section(values: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The section at a path, empty where there is none."""
    found: Any = values
    for name in path:
        found = found.get(name, {}) if isinstance(found, dict) else {}
    return found if isinstance(found, dict) else {}


def as_yaml(recipe: Recipe) -> str:
    """The recipe with every default filled in, as a recipe file."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
