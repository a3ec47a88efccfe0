"""Datasets of the Hugging Face hub, by name: which files they are, at which commit.

Why this exists: what a dataset's configuration and split mean stands in its README or in the names
of its files, and the datasets library knows those rules. It is asked for the files alone; they are
read here like any others, so that reading can go on at any row.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable
from typing import Any

from linnet.config import RequestError
from linnet.data.settings import Source
from linnet.data.sources.places import Found, listing
from linnet.data.sources.troubles import Interruption, reason_of, trouble_with

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DELAYS = (0.5, 1.0, 2.0)  # seconds between two times of asking


_commits: dict[str, str] = {}  # by dataset and revision, as asked for in this process or pinned


def commits() -> dict[str, str]:
    """The commits that were asked for or pinned so far, by `dataset@revision`."""
    return dict(_commits)


def pin(known: dict[str, str]) -> None:
    """Keep to commits that a run began with, whatever their revisions name by now."""
    _commits.update(known)


def commit_of(source: Source) -> str:
    """The commit of a Hugging Face dataset that its revision names; the same for the life of the process.

    Raises:
        RequestError: when the hub cannot be reached, or does not have it.
    """
    if source.revision and _COMMIT.fullmatch(source.revision):
        return source.revision
    named = f"{source.dataset}@{source.revision or 'main'}"
    if named not in _commits:
        from huggingface_hub import HfApi

        api = HfApi()
        ask = lambda: api.dataset_info(source.dataset or "", revision=source.revision)  # noqa: E731
        try:
            info = _asked(ask)
        except Exception as error:  # offline, missing and gated all come as different kinds
            raise _unreachable(source, error) from None
        _commits[named] = str(info.sha)
    return _commits[named]


def _asked(ask: Callable[[], Any]) -> Any:
    """The hub's answer; asked for again where it says that it cannot answer now."""
    for delay in _DELAYS:
        try:
            return ask()
        except Exception as error:
            if not isinstance(trouble_with(error, "", remote=True), Interruption):
                raise
            time.sleep(delay)
    return ask()


def _unreachable(source: Source, error: Exception) -> RequestError:
    return RequestError(
        f"the dataset cannot be reached ({reason_of(error)})", source.title,
        "check its name and the network, or give files with path",
    )  # fmt: skip


@functools.cache
def hub_files(source: Source) -> tuple[Found, ...]:
    """The files of a dataset's configuration and split, at its commit; asked for once in a process.

    Raises:
        RequestError: when there is no such dataset, configuration or split, or the hub cannot be reached.
    """
    commit = commit_of(source)
    splits = _splits(source, commit)
    if source.split not in splits:
        raise RequestError(f"there is no split {source.split!r}", source.title,
                           f"its splits are {', '.join(splits) or 'none'}")  # fmt: skip
    root = f"hf://datasets/{source.dataset}@{commit}/"
    named = splits[source.split]
    paths = [path for path in named if path.startswith(root)]
    elsewhere = [found for path in named if not path.startswith(root) for found in listing(path)]
    known = _listed(root, paths)
    return (
        *(known.get(path) or Found(path, path.removeprefix(root), None, commit) for path in paths),
        *elsewhere,
    )


def _splits(source: Source, commit: str) -> dict[str, list[str]]:
    """The URLs of every split of a dataset's configuration."""
    try:
        import datasets
    except ImportError:
        raise RequestError("a Hugging Face dataset needs the datasets library", source.title,
                           "pip install 'linnet[data]'") from None  # fmt: skip
    bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        builder = datasets.load_dataset_builder(source.dataset, source.name, revision=commit)
    except (ValueError, RuntimeError, FileNotFoundError) as error:  # the library's words for a wrong request
        reason = " ".join(str(error).split("\nExample")[0].split()) or type(error).__name__
        raise RequestError(f"the dataset has no such files ({reason})", source.title, _mend(reason)) from None
    except Exception as error:
        raise _unreachable(source, error) from None
    finally:
        if bars:
            datasets.enable_progress_bars()
    files: Any = builder.config.data_files or {}
    return {str(split): [str(path) for path in paths] for split, paths in files.items()}


def _mend(reason: str) -> str:
    if "script" in reason:
        return PARQUET_COPY
    if "onfig" in reason:
        return "set its 'name' to one of them"
    return "check its name, its configuration ('name') and its split"


PARQUET_COPY = "set revision: refs/convert/parquet, the hub's own copy as parquet"


def _listed(root: str, paths: list[str]) -> dict[str, Found]:
    """What the hub says of files, by URL; one listing of the folder that holds them all."""
    if not paths:
        return {}
    folder = os.path.commonpath([os.path.dirname(path.removeprefix(root)) for path in paths])
    return {found.path: found for found in listing(f"{root}{folder}/" if folder else root)}


def pinned(url: str) -> tuple[str, str]:
    """An hf:// URL at the commit that its revision names now, and the URL of its repository's root.

    What is read over days must not change on the way because a branch did.
    """
    from huggingface_hub import HfApi, HfFileSystem

    place: Any = HfFileSystem().resolve_path(url)
    if not hasattr(place, "revision"):  # a bucket has none
        return url, f"hf://buckets/{place.bucket_id}"
    commit = place.revision
    if not _COMMIT.fullmatch(commit):
        commit = HfApi().repo_info(place.repo_id, repo_type=place.repo_type, revision=place.revision).sha
    kind = "" if place.repo_type == "model" else f"{place.repo_type}s/"
    root = f"hf://{kind}{place.repo_id}@{commit}"
    tail = "/" if url.endswith("/") else ""
    return f"{root}/{place.path_in_repo}{tail}".rstrip("/") + tail, root
