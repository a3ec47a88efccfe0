"""Living a recipe: from its text to a trained model in a run folder.

Everything that can be refused is refused before the run folder is touched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from linnet.config import RequestError, RunError
from linnet.data.corpus import Corpus
from linnet.data.opening import open_corpus
from linnet.data.shards.progress import Progress as BuildObserver
from linnet.data.shards.progress import silent
from linnet.data.sources.hub import commits, pin
from linnet.data.training import TrainBatches
from linnet.hardware import Choices, choose, describe, detect, peak_flops
from linnet.infer import Generator, SamplingSettings
from linnet.model import Transformer, count_parameters, flops_per_token, initialize, load_model, read_spec
from linnet.objectives import NextToken
from linnet.observe import Anomaly, EventLog, Observer, Observers, RunStarted, draw
from linnet.recipe.folder import RunFolder
from linnet.recipe.parts import fitting_tokenizer
from linnet.recipe.recipe import Recipe, as_yaml
from linnet.text import Tokenizer
from linnet.train import Checkpoint, CheckpointFolder, Meter, Outcome, Trainer, verify
from linnet.train.engines import LocalEngine

SAMPLE_TEMPERATURE, SAMPLE_TOP_K = 0.8, 50


@dataclass(frozen=True)
class Prepared:
    """A stage that is ready to run: nothing about it can still be refused."""

    recipe: Recipe
    choices: Choices
    tokenizer: Tokenizer
    corpus: Corpus
    train: TrainBatches
    total_steps: int


def prepare_pretraining(recipe: Recipe, on_build: BuildObserver | None = None) -> Prepared:
    """Choose for the machine, load or train the tokenizer, build or open the shards.

    Raises:
        RequestError: for anything about the recipe that cannot be had here.
    """
    stage = recipe.pretrain
    choices = choose(recipe.hardware, detect(), stage.data.sequence_length, recipe.model.attention_dropout)
    tokenizer = fitting_tokenizer(recipe)
    corpus = open_corpus(stage.data, tokenizer, recipe.seed, on_build or silent)
    total = corpus.steps(stage.duration, stage.train_batch_size)
    train = corpus.batches(stage.train_batch_size, recipe.seed, total)
    try:
        stage.check_schedule(total)
    except ValueError as error:
        raise RequestError(str(error), "pretrain") from None
    return Prepared(recipe, choices, tokenizer, corpus, train, total)


def live(
    recipe: Recipe,
    folder: Path,
    watch: Callable[[RunFolder], Sequence[Observer]] = lambda _: (),
    on_build: BuildObserver | None = None,
    fresh: bool = False,
) -> Outcome:
    """Run a recipe in a folder, or go on with it.

    Args:
        watch: makes observers besides the log of events, once the folder is this run's.
        on_build: hears of the building of shards.
        fresh: set an earlier run in this folder aside and begin again.

    Raises:
        RequestError: the request is wrong; nothing was touched.
        RunError: the work failed; what was saved is intact.
    """
    run = RunFolder(folder)
    if not fresh:
        run.check(recipe)
    if fresh or not run.checkpoints(1, "pretrain").latest():
        _check_start(recipe)
    if not fresh:
        pin(run.commits)
    prepared = prepare_pretraining(recipe, on_build)
    if fresh:
        run.set_aside()
        run.check(recipe)
    with run.opened(recipe):
        run.keep_commits(commits())
        observers = Observers(EventLog(run.events), *watch(run))
        try:
            outcome = pretrain(prepared, run.checkpoints(1, "pretrain"), observers)
        finally:
            prepared.corpus.close()
            observers.close()
        if outcome != "stopped":
            _draw(run)
    return outcome


def _draw(run: RunFolder) -> None:
    try:
        draw(run.events, run.curves)
    except OSError as error:
        raise RunError(f"the curves cannot be drawn ({error.strerror})", str(run.curves),
                       "all else is saved; make room and run the same command again") from None  # fmt: skip


def pretrain(prepared: Prepared, checkpoints: CheckpointFolder, observe: Observer) -> Outcome:
    """The pretraining stage, from its latest checkpoint if it has one."""
    recipe, stage = prepared.recipe, prepared.recipe.pretrain
    checkpoints.clean()
    latest = checkpoints.latest()
    if latest:
        verify(latest)
    model = _model(recipe, latest)
    length = stage.data.sequence_length
    choices = prepared.choices
    engine = LocalEngine(model, stage, choices, length, recipe.seed)
    generator = Generator(model, prepared.tokenizer)
    settings = SamplingSettings(
        max_new_tokens=max(1, stage.sample_tokens), temperature=SAMPLE_TEMPERATURE, top_k=SAMPLE_TOP_K
    )

    def sample() -> list[tuple[str, str]]:
        prompts = list(stage.sample_prompts)
        return [
            (p, done.text) for p, done in zip(prompts, generator.generate(prompts, settings), strict=True)
        ]

    trainer = Trainer(
        engine=engine,
        objective=NextToken(),
        batches=prepared.train,
        validation=prepared.corpus.validation,
        validation_weights=prepared.corpus.validation_weights,
        settings=stage,
        total_steps=prepared.total_steps,
        tokenizer=prepared.tokenizer,
        checkpoints=checkpoints,
        observe=observe,
        meter=Meter(
            flops_per_token(recipe.model, length), peak_flops(choices.machine, choices.precision.value)
        ),
        data_fingerprint=prepared.corpus.fingerprint,
        workers=stage.data.num_workers,
        pin_memory=choices.device.value == "cuda",
        sampler=sample if stage.sample_tokens and stage.sample_prompts else None,
        facts={
            "stage": "pretrain",
            "recipe": recipe.name,
            "recipe_sha256": hashlib.sha256(as_yaml(recipe).encode()).hexdigest(),
            "model": recipe.model.model_dump(mode="json"),
            "parent": str(latest.path.name) if latest else stage.init_from,
        },
    )
    prepared.corpus.listeners.append(lambda line: observe(Anomaly(trainer.progress.step, line)))
    observe(
        RunStarted(
            latest.step if latest else 0,
            recipe=recipe.name,
            total_steps=prepared.total_steps,
            parameters=count_parameters(recipe.model).total,
            tokens_per_step=stage.train_batch_size * length,
            stage="pretrain",
            device=describe(choices.machine),
            reasons=choices.lines(),
        )
    )
    if latest:
        trainer.resume(latest)
    return trainer.run()


def _model(recipe: Recipe, latest: Checkpoint | None) -> Transformer:
    if latest:
        return load_model(latest.model_folder, recipe.model)
    if recipe.pretrain.init_from:
        return load_model(_model_folder(recipe.pretrain.init_from), recipe.model)
    model = Transformer(recipe.model)
    initialize(model, recipe.seed)
    return model


def _check_start(recipe: Recipe) -> None:
    """Refuse an `init_from` that is no model of the recipe's shape, before anything is touched."""
    if not recipe.pretrain.init_from:
        return
    found, wanted = read_spec(_model_folder(recipe.pretrain.init_from)), recipe.model
    for name in ("architecture", "vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size"):
        if getattr(found, name) != getattr(wanted, name):
            raise RequestError(
                f"its {name} is {getattr(found, name)} and the recipe's {getattr(wanted, name)}",
                f"pretrain.init_from={recipe.pretrain.init_from}", f"set model.{name} to it, or give another model",
            )  # fmt: skip


def _model_folder(word: str) -> Path:
    path = Path(word).expanduser()
    return path / "model" if (path / "model" / "config.json").exists() else path
