"""What a model that a stage begins with is, and what a recipe's `model:` may say beside it.

Every fact that decides what the model computes is the start's own. A recipe may repeat such a fact and may leave it
out; another value is refused. What it may change is in `MAY_CHANGE`, and `max_position_embeddings` where positions
are rotary, since that is then a limit and no part of the function.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from linnet.config import Layers, RequestError, validate
from linnet.model import ModelSpec, check_weights, read_spec
from linnet.train.checkpoints import open_checkpoint

MAY_CHANGE = ("dropout", "attention_dropout", "initialization", "initializer_range")


def spec_of_start(folder: Path, asked: ModelSpec | None, where: str) -> ModelSpec:
    """The specification of the model in `folder`, with what a recipe's `model:` may change.

    Args:
        asked: the recipe's; of it, only what was set there counts.
        where: what names the folder in the recipe, for messages.

    Raises:
        RequestError: when it is no model, or the recipe sets a fact of it to another value.
    """
    found = spec_in(folder)
    if asked is None:
        return found
    if asked.scale_embeddings and not found.tie_word_embeddings:
        found = _as_scaled(found, folder)
    facts, said = _facts(found), _facts(asked)
    for fact, value in facts.items():
        if value != said[fact] and _is_set(asked, fact):
            raise RequestError(
                f"its {fact} is {value} and the recipe's {said[fact]}",
                where,
                f"set model.{fact} to it, or give another model",
            )
    free = [*MAY_CHANGE, *(["max_position_embeddings"] if "max_position_embeddings" not in facts else [])]
    return found.model_copy(update={name: getattr(asked, name) for name in free if _is_set(asked, name)})


def spec_in(folder: Path) -> ModelSpec:
    """The specification of a stock folder, or what the manifest says where it is a checkpoint's.

    A manifest says what the stock form cannot: dropout, and that an embedding is tied and scaled.

    Raises:
        RequestError: when it is no model, or the manifest is of another one.
    """
    found = read_spec(folder)
    if folder.name != "model" or not (folder.parent / "manifest.json").is_file():
        return found
    kept = open_checkpoint(folder.parent).manifest.get("model")
    if not isinstance(kept, dict):
        return found
    spec = validate(ModelSpec, Layers(kept, {(): str(folder.parent / "manifest.json")}))
    untied = {"tie_word_embeddings": False, "scale_embeddings": False} if spec.scale_embeddings else {}
    facts = _facts(spec.model_copy(update=untied))
    for fact, value in _facts(found).items():
        if facts.get(fact) != value:
            raise RequestError(
                f"its manifest says {fact} {facts.get(fact)} and its config.json {value}",
                str(folder.parent),
                "restore the checkpoint, or copy its model folder elsewhere to begin with what config.json says",
            )
    return spec


def _facts(spec: ModelSpec) -> dict[str, Any]:
    """All that decides what a model computes, each by one value: two models are one function where these are equal."""
    interval = spec.no_rope_layer_interval
    same = (
        "architecture",
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "intermediate_size",
        "num_attention_heads",
    )
    facts = {name: getattr(spec, name) for name in same}
    facts |= {
        "num_key_value_heads": spec.key_value_heads,
        "head_dim": spec.head_size,
        "norm_eps": spec.norm_eps,
        "tie_word_embeddings": spec.tie_word_embeddings,
        "scale_embeddings": spec.scale_embeddings,
        "attention_bias": spec.has_attention_bias,
        "mlp_bias": spec.has_mlp_bias,
    }
    if spec.learned_positions:
        return facts | {"max_position_embeddings": spec.max_position_embeddings}
    beyond = interval > spec.num_hidden_layers
    return facts | {"rope_theta": spec.rope_theta, "no_rope_layer_interval": 0 if beyond else interval}


def _is_set(asked: ModelSpec, name: str) -> bool:
    return name in asked.model_fields_set and getattr(asked, name) is not None


def _as_scaled(found: ModelSpec, folder: Path) -> ModelSpec:
    """A tied, scaled embedding where the weights are the untied pair that is written for one."""
    scaled = found.model_copy(update={"tie_word_embeddings": True, "scale_embeddings": True})
    try:
        check_weights(folder, scaled)
    except RequestError:
        return found
    return scaled
