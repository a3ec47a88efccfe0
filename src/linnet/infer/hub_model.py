"""A stock model by its name on the hub: `hf:owner/name`, or `hf:owner/name@revision`."""

from __future__ import annotations

import json
from pathlib import Path

from linnet.config import RequestError
from linnet.text.files import GENERATION_FILE
from linnet.text.hub import HubFiles

PREFIX = "hf:"
_WEIGHTS = "model.safetensors"


def fetch_model(name: str) -> Path:
    """The folder of a hub repository's config, weights and tokenizer, fetched once.

    Args:
        name: `hf:owner/name`, with a revision after an @ where not the newest is meant.

    Raises:
        RequestError: there is no such repository, no model in it, or it is not to be had offline.
        RunError: the hub answered with a failure.
    """
    repository, _, revision = name.removeprefix(PREFIX).partition("@")
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise RequestError("this is no model's name", name, "write hf:owner/name")
    hub = HubFiles(repository, revision or None, name)
    config = _needed(hub, "config.json", name)
    index = hub.get(f"{_WEIGHTS}.index.json")
    parts = (
        {_WEIGHTS}
        if index is None
        else {*json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    )
    for part in sorted(parts):
        _needed(hub, part, name)
    for file in (GENERATION_FILE, "chat_template.jinja"):
        hub.get(file)
    if hub.get_tokenizer() is None:
        raise RequestError("it has no tokenizer that Linnet reads", name)
    return config.parent


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
