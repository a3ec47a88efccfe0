"""A recipe's data built in parts: by many processes of one machine, by an array of jobs, or by datatrove."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from linnet.config import RequestError
from linnet.data.parts import Part, PartDone, build_part
from linnet.data.shards.progress import Progress, silent
from linnet.data.sources.hub import commit_of
from linnet.recipe.recipe import Recipe, document_stage, load_recipe
from linnet.recipe.starts import fitting_tokenizer

if TYPE_CHECKING:
    from linnet.data.scale import BuildPieces

_COMMIT = re.compile(r"[0-9a-f]{40}")


def build_recipe_part(recipe: Recipe, part: Part, progress: Progress = silent) -> PartDone:
    """Make a part of the pieces of a recipe's data; see `build_part`.

    Raises:
        RequestError: also when a dataset's revision is a branch, which may move between two parts.
    """
    data = document_stage(recipe).data
    for source in data.all_sources:
        if source.dataset and not source.streaming and not _COMMIT.fullmatch(source.revision or ""):
            raise RequestError(
                f"its revision {source.revision or 'main'!r} may name another commit before the last part runs",
                source.title, f"set revision: {commit_of(source)}",
            )  # fmt: skip
    return build_part(data, fitting_tokenizer(recipe), part, progress)


def pieces_of(recipe: str, overrides: Sequence[str] = (), processes: int = 1) -> BuildPieces:
    """The step that builds a recipe's data with an executor of datatrove.

    The tokenizer is loaded, or trained, here and now; the tasks only use it.

    Args:
        recipe: a shipped recipe's name or a file. overrides: KEY=VALUE. processes: see `BuildPieces`.

    Raises:
        RequestError: for anything about the recipe that cannot be had, and where datatrove is not installed.
    """
    from linnet.data.scale import BuildPieces

    found = load_recipe(recipe, list(overrides))
    return BuildPieces(document_stage(found).data, fitting_tokenizer(found), processes)
