"""What a stage begins with: the checkpoint that the stage before hands on, or any model by `init_from`."""

from __future__ import annotations

from pathlib import Path

from linnet.config import RequestError
from linnet.infer import find_model
from linnet.model import check_weights
from linnet.recipe.parts import fitting_tokenizer
from linnet.recipe.recipe import Recipe
from linnet.recipe.stages import Stage, StageName
from linnet.recipe.start_spec import spec_in, spec_of_start
from linnet.recipe.work import Start
from linnet.text import Tokenizer
from linnet.train import CheckpointFolder


def chosen_start(checkpoints: CheckpointFolder, before: Stage) -> Start:
    """What the stage before hands on."""
    folder = checkpoints.chosen(before.hand_on).model_folder
    return Start(folder, Tokenizer.load(folder), spec_in(folder))


def first_start(recipe: Recipe, name: StageName) -> Start:
    """What a stage begins with that follows on none: `init_from`, or fresh weights.

    Raises:
        RequestError: as `check_start`, or the recipe's tokenizer cannot be had.
    """
    if recipe.stage(name).init_from is not None:
        return check_start(recipe, name)
    assert recipe.model is not None  # a recipe of fresh weights has one
    return Start(None, fitting_tokenizer(recipe), recipe.model)


def check_start(recipe: Recipe, name: StageName) -> Start:
    """What `init_from` names.

    Raises:
        RequestError: when it is no whole model, or another one than the recipe's `model:` says.
    """
    word = recipe.stage(name).init_from
    assert word is not None
    where = f"{name}.init_from={word}"
    try:
        folder = find_model(Path(word).expanduser())
    except RequestError as error:
        raise RequestError(f"{error.what}: {error.where}", where, error.mend) from None
    spec = spec_of_start(folder, recipe.model, where)
    check_weights(folder, spec)
    return Start(folder, _tokenizer(recipe, folder), spec)


def _tokenizer(recipe: Recipe, folder: Path) -> Tokenizer:
    """The recipe's tokenizer where a life begins with documents, for which it is named; else the model's own."""
    if recipe.tokenizer is not None and recipe.pretrain is not None and recipe.life[0] == "pretrain":
        return fitting_tokenizer(recipe)
    return Tokenizer.load(folder)
