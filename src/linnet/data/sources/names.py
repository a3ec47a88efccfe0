"""What a file's name says: its kind, how it is packed, and whether somebody who names its folder means it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from linnet.data.sources.reading import PACKED

TEXT = (".txt", ".md", ".text")
JSON = (".jsonl", ".ndjson", ".json")
KINDS = (*TEXT, *JSON, ".csv", ".parquet", ".tar", ".bin")
KNOWN = "txt, md, jsonl, json, csv (these also as .gz or .zst), parquet, tar or bin"
_NEVER_PACKED = (".parquet", ".bin")
_SHORT_FORMS = {".tgz": ".tar.gz", ".tzst": ".tar.zst"}
_SYSTEM_FOLDERS = ("__MACOSX", "lost+found")
_ABOUT = re.compile(r"(readme|licen[sc]e|copying|notice)(?![a-z])", re.IGNORECASE)


def packing_of(name: str | Path) -> str:
    """How a file is packed, by its name: `.gz`, `.zst`, or nothing."""
    suffix = os.path.splitext(_base(name))[1]
    return suffix if suffix in PACKED else ""


def kind_of(name: str | Path) -> str:
    """The suffix that says what a file is, packing aside: `.jsonl` of `a.jsonl.gz`."""
    base = _base(name)
    return os.path.splitext(base.removesuffix(packing_of(name)))[1]


def _base(name: str | Path) -> str:
    base = (name if isinstance(name, str) else name.name).rpartition("/")[2].lower()
    stem, suffix = os.path.splitext(base)
    return stem + _SHORT_FORMS.get(suffix, suffix)


def readable(name: str | Path) -> bool:
    """Whether a file is of a kind that is read, by its name."""
    return kind_of(name) in KINDS and not (packing_of(name) and kind_of(name) in _NEVER_PACKED)


def hidden(name: str) -> bool:
    """Whether a file or one of the folders in its name is hidden, or is an operating system's own."""
    parts = name.split("/")
    return any(
        (part.startswith(".") and part not in (".", "..")) or part in _SYSTEM_FOLDERS for part in parts
    )


def about_the_data(names: Collection[str]) -> set[str]:
    """The README and LICENSE texts among files of which others hold the data: none where all are texts."""
    if all(kind_of(name) in TEXT for name in names):
        return set()
    return {name for name in names if kind_of(name) in TEXT and _ABOUT.match(name.rpartition("/")[2])}


def saved_by_datasets(names: Collection[str]) -> bool:
    """Whether files are what `datasets` writes by save_to_disk: Arrow files beside JSON that describes them."""
    found = {PurePosixPath(name) for name in names}
    described = any(
        path.name == "state.json" and path.with_name("dataset_info.json") in found for path in found
    )
    return described or any(path.name == "dataset_dict.json" for path in found)
