"""The name a store is kept under: a hash of everything that decides its bytes.

Changing the tokenizer, a file's content or the share held out means another name, so a
stale store is never met, whatever the files are called and wherever they lie.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from linnet.config import RequestError
from linnet.data.settings import DataSettings, Source
from linnet.data.shards.store import sha256_of
from linnet.data.sources.documents import commit_of, limit_of
from linnet.data.sources.files import File, content_of, files_of


def cache_folder(settings: DataSettings) -> Path:
    """Where stores are kept: `cache_dir`, else $LINNET_CACHE, else ~/.cache/linnet."""
    chosen = settings.cache_dir or os.environ.get("LINNET_CACHE") or "~/.cache/linnet"
    return Path(chosen).expanduser()


def unwritable(folder: Path, error: OSError) -> RequestError:
    """What to say when nothing can be put into the cache."""
    return RequestError(f"the cache cannot be written ({error.strerror})", str(folder),
                        "set data.cache_dir or LINNET_CACHE to a folder that can")  # fmt: skip


def fingerprint(source: Source) -> dict[str, Any]:
    """What decides the documents of a source: the content of its files, a dataset's commit, a generator's code.

    Of a streamed source, which is not read for it, what can be told from outside.

    Raises:
        RequestError: when the files are not there, or the hub cannot be reached.
    """
    if source.streaming:
        return stream_fingerprint(source, files_of(source), versions=True)
    facts: dict[str, Any] = {"documents": limit_of(source), **_reading(source)}
    if source.path:
        facts["files"] = [(file.kind, file.packing, content_of(file)) for file in files_of(source)]
    elif source.builtin:
        world = Path(__file__).parents[1] / "world"
        facts["generator"] = [sha256_of(path) for path in sorted(world.glob("*.py"))]
        facts["part"] = source.name
    else:
        facts |= _dataset(source)
    return facts


def stream_fingerprint(source: Source, files: Sequence[File], versions: bool) -> dict[str, Any]:
    """What decides the documents of a streamed source, as far as can be told without reading it.

    Args:
        versions: whether the files' times and tags count: they tell a changed file from an old cache, but
            differ between two copies of the same data.
    """
    facts: dict[str, Any] = {"documents": source.documents, **_reading(source)}
    if source.dataset:
        return facts | _dataset(source)
    return facts | {"files": [(file.name, file.size, file.version if versions else "") for file in files]}


def _reading(source: Source) -> dict[str, Any]:
    return {"fields": source.fields, "template": source.text_template, "filter": source.filter}


def _dataset(source: Source) -> dict[str, Any]:
    return {**source.model_dump(include={"dataset", "name", "split"}), "commit": commit_of(source)}


def key_of(**facts: Any) -> str:
    """A name made of facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]
