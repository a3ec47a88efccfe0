"""What a stage begins with: the checkpoint that the stage before hands on, or any model by `init_from`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from linnet.config import RequestError
from linnet.data.vocabulary import tokenizer_for
from linnet.infer import find_model
from linnet.model import Transformer, check_weights, initialize, load_adapter, load_model, lora, read_spec
from linnet.recipe.pins import verified_files
from linnet.recipe.recipe import Recipe, document_stage
from linnet.recipe.stages import AnyStage, Stage, StageName
from linnet.recipe.start_spec import spec_in, spec_of_start
from linnet.recipe.work import Start
from linnet.text import Tokenizer, load_tokenizer
from linnet.text.fitting import tokenizer_of
from linnet.text.settings import TRAINED
from linnet.train import Checkpoint, CheckpointFolder


def chosen_start(checkpoints: CheckpointFolder, before: Stage) -> Start:
    """What the stage before hands on."""
    folder = checkpoints.chosen(before.hand_on).model_folder
    with _damage_named(folder):
        spec = spec_in(folder)
        return Start(folder, tokenizer_of(folder, spec.vocab_size), spec)


def first_start(recipe: Recipe, name: StageName) -> Start:
    """What a stage begins with that follows on none: `init_from`, or fresh weights.

    Raises:
        RequestError: as `check_start`, or the recipe's tokenizer cannot be had.
    """
    if recipe.stage(name).init_from is not None:
        return check_start(recipe, name)
    tokenizer = fitting_tokenizer(recipe)
    assert recipe.model is not None
    return Start(None, tokenizer, recipe.model)


def check_start(recipe: Recipe, name: StageName, kept: Path | None = None) -> Start:
    """What `init_from` names.

    Args:
        kept: the folder that it named when the stage began: a run names another one once it has gone on.

    Raises:
        RequestError: when it is no whole model, another one than the recipe's `model:` says, or its vocabulary
            is not the recipe's.
    """
    word = recipe.stage(name).init_from
    assert word is not None
    where = f"{name}.init_from={word}"
    try:
        folder = kept or find_model(Path(word).expanduser())
        tokenizer = tokenizer_of(folder, read_spec(folder).vocab_size)
    except RequestError as error:
        raise RequestError(f"{error.what}: {error.where}", where, error.mend) from None
    with _damage_named(folder):
        spec = spec_of_start(folder, recipe.model, where)
        check_weights(folder, spec)
    _check_vocabulary(recipe, folder, where)
    return Start(folder, tokenizer, spec)


@contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    """Where a model cannot be read: of a checkpoint, which file is not what its manifest says.

    Raises:
        RunError: a file of the checkpoint is damaged.
    """
    try:
        yield
    except RequestError:
        verified_files(folder)
        raise


def _check_vocabulary(recipe: Recipe, folder: Path, where: str) -> None:
    """Refuse a tokenizer that the recipe names beside `init_from` and that is not the model's own.

    Weights mean something for the vocabulary that they were trained with; one of the same size will not do.
    `tokenizer: trained` asks for a vocabulary for fresh weights, and a recipe whose life begins with fresh
    weights means its tokenizer for these.
    """
    named = recipe.tokenizer
    fresh = recipe.stage(recipe.life[0]).init_from is None
    if named is None or named.name == TRAINED or fresh:
        return
    prints = [t.vocabulary_fingerprint[:12] for t in (load_tokenizer(named.name, "tokenizer.name", named.revision),
                                           Tokenizer.load(folder))]  # fmt: skip
    if prints[0] != prints[1]:
        raise RequestError(
            f"the recipe's tokenizer {named.name} (fingerprint {prints[0]}) is not the one that this model was "
            f"trained with ({prints[1]})", where, "leave tokenizer out (tokenizer=null): the model brings its own",
        )  # fmt: skip


def tokenizer_note(recipe: Recipe, name: StageName) -> str:
    """What to say where a recipe asks for a trained tokenizer and begins with a model that has one."""
    named, stage = recipe.tokenizer, recipe.stage(name)
    if named is None or named.name != TRAINED or name != recipe.life[0] or stage.init_from is None:
        return ""
    return f"{name}: no tokenizer is trained; {stage.init_from} brings the one that its weights were trained with"


def fitting_tokenizer(recipe: Recipe) -> Tokenizer:
    """The tokenizer of a recipe's pretraining: the start's own, or for fresh weights the one that it names.

    Raises:
        RequestError: when it cannot be had, or the model has too little room for it.
    """
    stage = document_stage(recipe)
    if stage.init_from is not None:
        return check_start(recipe, "pretrain").tokenizer
    if recipe.tokenizer is None or recipe.model is None:
        missing = "model" if recipe.model is None else "tokenizer"
        raise RequestError(f"{missing!r} is missing", recipe.name, "add it, or set pretrain.init_from")
    tokenizer = tokenizer_for(recipe.tokenizer, stage.data)
    if tokenizer.vocab_size > recipe.model.vocab_size:
        raise RequestError(
            f"the tokenizer {tokenizer.name} has {tokenizer.vocab_size} tokens and the model room for "
            f"{recipe.model.vocab_size}", "model.vocab_size", f"set it to {tokenizer.vocab_size} or more",
        )  # fmt: skip
    return tokenizer


def begun_model(recipe: Recipe, stage: AnyStage, start: Start, latest: Checkpoint | None) -> Transformer:
    """The stage's model as it stands: from its latest checkpoint, or from what it begins with."""
    if start.folder is None:
        if latest:
            return load_model(latest.model_folder, start.spec)
        model = Transformer(start.spec)
        initialize(model, recipe.seed)
        return model
    if stage.lora is None:
        return load_model(latest.model_folder if latest else start.folder, start.spec)
    model = load_model(start.folder, start.spec)
    if latest is None:
        lora.apply(model, stage.lora, recipe.seed)
    else:
        assert latest.adapter_folder is not None
        load_adapter(model, latest.adapter_folder)
    return model
