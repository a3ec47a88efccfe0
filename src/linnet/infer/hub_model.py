"""A stock model by its name on the hub: `hf:owner/name`, or `hf:owner/name@revision`."""

from __future__ import annotations

from pathlib import Path

from linnet.config import RequestError
from linnet.model.stock_files import ADAPTER_CONFIG, CONFIG, INDEX, WEIGHTS, refuse_adapter, shard_names
from linnet.text.files import GENERATION_FILE
from linnet.text.hub import HubFiles

PREFIX = "hf:"


def fetch_model(name: str) -> Path:
    """The folder of a hub repository's config, weights and tokenizer, fetched once.

    Args:
        name: `hf:owner/name`, with a revision after an @ where not the newest is meant.

    Raises:
        RequestError: there is no such repository, no model in it, an adapter in it, or it is not to be had offline.
        RunError: the hub answered with a failure.
    """
    repository, _, revision = name.removeprefix(PREFIX).partition("@")
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise RequestError("this is no model's name", name, "write hf:owner/name")
    hub = HubFiles(repository, revision or None, name)
    config, adapter = hub.get(CONFIG), hub.get(ADAPTER_CONFIG)
    if adapter is not None:
        refuse_adapter(adapter.parent, name)
    config = config or _needed(hub, CONFIG, name)
    _fetch_weights(hub, name)
    for file in (GENERATION_FILE, "chat_template.jinja"):
        hub.get(file)
    if hub.get_tokenizer() is None:
        raise RequestError("it has no tokenizer that Linnet reads", name)
    return config.parent


def _fetch_weights(hub: HubFiles, name: str) -> None:
    """The single file where there is one, as transformers does, else the shards of the index."""
    if hub.get(WEIGHTS) is not None:
        return
    index = hub.get(INDEX)
    for part in [WEIGHTS] if index is None else shard_names(index):
        _needed(hub, part, name)


def _needed(hub: HubFiles, file: str, name: str) -> Path:
    path = hub.get(file)
    if path is None and hub.offline:
        raise RequestError(
            f"its {file} is not on this machine and the hub cannot be reached",
            name,
            "go online once, or give a folder",
        )
    if path is None:
        raise RequestError(f"there is no {file}", name, "give a model whose weights are safetensors")
    return path
