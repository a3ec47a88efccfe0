"""A model's whole life: the recipe, the recipes that ship, and living one in a run folder."""

from linnet.recipe.folder import RunFolder, read_recipe
from linnet.recipe.live import live, prepare_pretraining
from linnet.recipe.parts import build_recipe_part, pieces_of
from linnet.recipe.recipe import Recipe, as_yaml, load_recipe, shipped

__all__ = [
    "Recipe",
    "RunFolder",
    "as_yaml",
    "build_recipe_part",
    "live",
    "load_recipe",
    "pieces_of",
    "prepare_pretraining",
    "read_recipe",
    "shipped",
]
