"""The name a store is kept under: a hash of everything that decides its bytes.

Changing the tokenizer, a file's content or the share held out means another name, so a
stale store is never met, whatever the files are called and wherever they lie.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from linnet.config import RequestError
from linnet.data.settings import DataSettings, Source
from linnet.data.shards.store import FORMAT, sha256_of
from linnet.data.sources.documents import commit_of, files_of, kind_of, limit_of
from linnet.text import Tokenizer


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

    Raises:
        RequestError: when the files are not there, or the hub cannot be reached.
    """
    facts: dict[str, Any] = {"documents": limit_of(source)}
    if source.path:
        facts["text_field"] = source.text_field
        try:
            facts["files"] = [(kind_of(path), path.suffix, sha256_of(path)) for path in files_of(source)]
        except OSError as error:
            raise RequestError(
                f"cannot be read ({error.strerror})", str(error.filename), "check the file"
            ) from None
    elif source.builtin:
        world = Path(__file__).parents[1] / "world"
        facts["generator"] = [sha256_of(path) for path in sorted(world.glob("*.py"))]
    else:
        named = {"dataset", "name", "split", "text_field"}
        facts |= source.model_dump(include=named) | {"commit": commit_of(source)}
    return facts


def store_key(settings: DataSettings, tokenizer: Tokenizer) -> str:
    """The name of the store that these settings and this tokenizer make."""
    return key_of(
        format=FORMAT,
        tokenizer=tokenizer.fingerprint,
        sources=[fingerprint(source) for source in settings.sources],
        validation=[fingerprint(source) for source in settings.validation_sources],
        fraction=None if settings.validation_sources else settings.validation_fraction,
    )


def key_of(**facts: Any) -> str:
    """A name made of facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]
