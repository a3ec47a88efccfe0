"""A stock model by its name on the hub: `hf:owner/name`, or `hf:owner/name@revision`.

All files are of one commit: the one that the revision names when the first file is fetched, or the one that a
run was pinned to.
"""

from __future__ import annotations

import re
from pathlib import Path

from linnet.config import RequestError
from linnet.model.stock_files import ADAPTER_CONFIG, CONFIG, INDEX, WEIGHTS, refuse_adapter, shard_names
from linnet.text.files import GENERATION_FILE
from linnet.text.hub import HubFiles

PREFIX = "hf:"
_COMMIT = re.compile(r"[0-9a-f]{40}")

_commits: dict[str, str] = {}  # by hf:owner/name@revision, as found in this process or pinned


def model_commits() -> dict[str, str]:
    """The commits of the models that were fetched or pinned so far, by `hf:owner/name@revision`."""
    return dict(_commits)


def pin_models(known: dict[str, str]) -> None:
    """Keep to commits that a run began with, whatever their revisions name by now; other names are left out."""
    _commits.update({name: commit for name, commit in known.items() if name.startswith(PREFIX)})


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
    named = f"{PREFIX}{repository}@{revision or 'main'}"
    hub = HubFiles(repository, _commits.get(named, revision or None), name)
    config, adapter = hub.get(CONFIG), hub.get(ADAPTER_CONFIG)
    if adapter is not None:
        refuse_adapter(adapter.parent, name)
    config = config or _needed(hub, CONFIG, name)
    commit = config.parent.name  # the cache keeps a folder a commit
    if _COMMIT.fullmatch(commit):
        if commit != revision:
            _commits[named] = commit
        hub = HubFiles(repository, commit, name, hub.offline)
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
