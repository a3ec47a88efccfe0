"""A later stage's data looked at without training anything."""

from __future__ import annotations

from linnet.config import RequestError
from linnet.recipe.chat_stages import prepare
from linnet.recipe.recipe import Recipe
from linnet.recipe.stages import ChatStage
from linnet.recipe.starts import first_start
from linnet.recipe.work import Show


def look_at_stage(recipe: Recipe, name: str, show: Show) -> None:
    """Show examples of a stage with what is learned marked, and what was counted before its first step.

    Raises:
        RequestError: when there is no such stage of conversations, pairs or problems, or its data would be refused.
    """
    stages = [stage for stage in recipe.life if isinstance(recipe.stage(stage), ChatStage)]
    found = next((stage for stage in stages if stage == name), None)
    if found is None:
        raise RequestError(f"there is no stage {name!r} of conversations in this recipe", "--stage",
                           f"there are {', '.join(stages) or 'none'}; without it documents are shown")  # fmt: skip
    until = recipe.life[: recipe.life.index(found) + 1]
    begins = next((stage for stage in reversed(until) if recipe.stage(stage).init_from is not None), until[0])
    prepare(recipe, found, first_start(recipe, begins), show).close()
