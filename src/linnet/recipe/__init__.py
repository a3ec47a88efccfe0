"""A model's whole life: the recipe, the recipes that ship, and living one in a run folder."""

from linnet.recipe.documents import prepare_pretraining
from linnet.recipe.folder import RunFolder, read_recipe
from linnet.recipe.live import live
from linnet.recipe.looking import look_at_stage
from linnet.recipe.parts import build_recipe_part, pieces_of
from linnet.recipe.recipe import Recipe, as_yaml, document_stage, load_recipe, shipped
from linnet.recipe.scores import table_of

__all__ = [
    "Recipe",
    "RunFolder",
    "as_yaml",
    "build_recipe_part",
    "document_stage",
    "live",
    "load_recipe",
    "look_at_stage",
    "pieces_of",
    "prepare_pretraining",
    "read_recipe",
    "shipped",
    "table_of",
]
