"""Living a recipe: from its text through all its stages to a model in a run folder.

Everything that can be refused is refused before the run folder is touched: also what a later stage would
trip over days from now, a dataset without the columns it needs, a verifier that is not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from linnet.config import RequestError, RunError
from linnet.data.shards.progress import Progress as BuildObserver
from linnet.data.sources.hub import commits, pin
from linnet.evaluate.scoreboard import StageScores
from linnet.hardware import describe, peak_flops
from linnet.infer import Generator, SamplingSettings
from linnet.model import (
    Transformer,
    count_parameters,
    flops_per_token,
    initialize,
    load_adapter,
    load_model,
    lora,
    score_flops,
)
from linnet.observe import Anomaly, EventLog, Observer, Observers, RunStarted, Scored, draw
from linnet.recipe.chat_stages import check_ahead, prepare
from linnet.recipe.documents import prepare_documents
from linnet.recipe.folder import RunFolder
from linnet.recipe.recipe import Recipe, as_yaml
from linnet.recipe.scores import Scorer, check_gates
from linnet.recipe.stages import AnyStage, ChatStage, StageName
from linnet.recipe.starts import chosen_start, first_start
from linnet.recipe.work import Show, Start, Work
from linnet.train import Checkpoint, Meter, Outcome, Trainer, verify
from linnet.train.engines import LocalEngine

SAMPLE_TEMPERATURE, SAMPLE_TOP_K = 0.8, 50


def live(
    recipe: Recipe,
    folder: Path,
    watch: Callable[[RunFolder], Sequence[Observer]] = lambda _: (),
    on_build: BuildObserver | None = None,
    fresh: bool = False,
    show: Show = lambda _: None,
    only: str | None = None,
) -> Outcome:
    """Run a recipe in a folder, or go on with it.

    Args:
        watch: makes observers besides the log of events, once the folder is this run's.
        on_build: hears of the building of shards.
        fresh: set an earlier run in this folder aside and begin again.
        show: is handed what a person should see beside the events: examples before a stage.
        only: live this stage alone; those before it must be done.

    Raises:
        RequestError: the request is wrong; nothing was touched.
        RunError: the work failed; what was saved is intact.
    """
    run = RunFolder(folder)
    if not fresh:
        run.check(recipe)
        pin(run.commits)
    life = _Life(recipe, run, on_build, show)
    names = life.to_live(only, fresh)
    first = life.prepared(names[0]) if names else None
    start = life.start(names[0]) if names[1:] else None
    for name in names[1:]:
        assert start is not None
        start = check_ahead(recipe, name, start)
    if fresh:
        run.set_aside()
        run.check(recipe)
    with run.opened(recipe):
        observers = Observers(EventLog(run.events), *watch(run))
        outcome: Outcome = "finished"
        try:
            life.measure_start(observers)
            for name in names:
                work = first or life.prepared(name)
                first = None
                run.keep_commits(commits())
                try:
                    outcome = life.run_stage(name, work, observers)
                finally:
                    work.close()
                    run.keep_commits(commits())
                if outcome == "stopped":
                    return outcome
            life.check_all_gates()
        finally:
            observers.close()
        _draw(run, run.curves, None)
    return outcome


def _draw(run: RunFolder, picture: Path, stage: str | None) -> None:
    try:
        draw(run.events, picture, stage)
    except RequestError:  # a stop came before the first step
        return
    except OSError as error:
        raise RunError(f"the curves cannot be drawn ({error.strerror})", str(picture),
                       "all else is saved; make room and run the same command again") from None  # fmt: skip


class _Life:
    """One recipe in one folder."""

    def __init__(self, recipe: Recipe, run: RunFolder, on_build: BuildObserver | None, show: Show) -> None:
        self.recipe, self.run, self.on_build, self.show = recipe, run, on_build, show
        self.scorer = Scorer(recipe, on_build)

    def number(self, name: StageName) -> int:
        """A stage's number in the run folder; from 1."""
        return self.recipe.life.index(name) + 1

    def folder(self, name: StageName) -> Path:
        """A stage's folder."""
        return self.run.stage(self.number(name), name)

    def to_live(self, only: str | None, fresh: bool) -> list[StageName]:
        """The stages that are still to be lived; all others are done.

        Raises:
            RequestError: when a single stage is asked for and one before it is not done.
        """
        life = self.recipe.life
        if only is not None and only not in life:
            raise RequestError(f"this recipe has no stage {only!r}", "--stage", f"it has {', '.join(life)}")
        left = life if fresh else [name for name in life if not self._over(name)]
        if only is None:
            return left
        place = [*map(str, life)].index(only)
        if fresh and place:
            raise RequestError(f"{only} goes on from {life[place - 1]}, which --fresh would set aside",
                               f"--stage {only} --fresh", "leave out one of the two")  # fmt: skip
        before = [name for name in life[:place] if not self._ended(name)]
        if before:
            raise RequestError(f"{before[0]} comes before it and is not done", f"--stage {only}",
                               f"run --stage {before[0]} first, or leave --stage out")  # fmt: skip
        return [life[place]] if life[place] in left else []

    def _ended(self, name: StageName) -> bool:
        """Whether a stage has come to its end."""
        return self.run.ended(self.number(name), name, str(self.recipe.stage(name).duration))

    def _over(self, name: StageName) -> bool:
        """Whether a stage is over for good: the next one has begun with what it handed on.

        The last stage that was lived is looked at again: it may have been made longer, and what a kill
        left half done at its end is put right.
        """
        life = self.recipe.life
        return life[-1] != name and self.run.begun(life)[-1:] != [name] and name in self.run.begun(life)

    def start(self, name: StageName) -> Start:
        """What a stage begins with."""
        recipe = self.recipe
        index = recipe.life.index(name)
        if index == 0 or recipe.stage(name).init_from is not None:
            return first_start(recipe, name)
        before = recipe.life[index - 1]
        return chosen_start(recipe, self.run.checkpoints(index, before), recipe.stage(before))

    def prepared(self, name: StageName) -> Work:
        """A stage's work, from the model that it begins with."""
        start = self.start(name)
        if isinstance(self.recipe.stage(name), ChatStage):
            return prepare(self.recipe, name, start, self.show)
        return prepare_documents(self.recipe, name, start, self.on_build)

    def measure_start(self, observe: Observer) -> None:
        """Measure the model that a life begins with, where it does not begin with fresh weights."""
        name = self.recipe.life[0]
        folder = self.run.stage(0, "start")
        if not self.scorer.wanted or StageScores.load(folder) or name in self.run.begun(self.recipe.life):
            return
        start = self.start(name)
        if start.folder is not None:
            self._score("start", folder, start.folder, 0, observe)

    def run_stage(self, name: StageName, work: Work, observe: Observer) -> Outcome:
        """Train a stage from its latest checkpoint, measure what came of it, and check the gates."""
        stage = self.recipe.stage(name)
        outcome = self._train(name, stage, work, observe)
        if len(self.recipe.life) > 1:
            _draw(self.run, self.folder(name) / "curves.png", name)
        if outcome != "stopped":
            self.run.keep_end(self.number(name), name, str(stage.duration), outcome)
        if outcome != "stopped" and self.scorer.wanted:
            chosen = self.run.checkpoints(self.number(name), name).chosen(stage.hand_on)
            self._score(name, self.folder(name), chosen.model_folder, chosen.step, observe)
        return outcome

    def _score(self, title: str, folder: Path, model: Path, step: int, observe: Observer) -> None:
        before = StageScores.load(folder)
        if before is None or before.step != step:
            scores = self.scorer.measure(title, model, step)
            scores.save(folder)
            observe(Scored(step, {f"score/{s.suite}": s.rate.value for s in scores.scores}, stage=title))
        self.run.write_scoreboard(self.recipe.life)
        check_gates(self.recipe, self.run, title)

    def check_all_gates(self) -> None:
        """A life that was stopped at a gate does not pass it by being run again."""
        for name in self.recipe.life:
            check_gates(self.recipe, self.run, name)

    def _train(self, name: StageName, stage: AnyStage, work: Work, observe: Observer) -> Outcome:
        checkpoints = self.run.checkpoints(self.number(name), name)
        checkpoints.clean()
        latest = checkpoints.latest()
        if latest:
            verify(latest)
        start = self.start(name)
        model = _model(self.recipe, stage, start, latest)
        choices, length = work.choices, work.sequence_length
        engine = LocalEngine(model, stage, choices, length * work.rows, self.recipe.seed)
        equipped = work.equip(engine.model, self.folder(name), latest is not None)
        spec = model.spec
        trainer = Trainer(
            engine=engine,
            objective=equipped.objective,
            batches=equipped.batches,
            validation=equipped.validation,
            settings=stage,
            total_steps=work.total_steps,
            tokenizer=work.tokenizer,
            checkpoints=checkpoints,
            observe=observe,
            meter=Meter(
                flops_per_token(spec, length),
                peak_flops(choices.machine, choices.precision.value),
                score_flops(spec),
            ),
            data_fingerprint=work.fingerprint,
            workers=stage.data.num_workers,
            pin_memory=choices.device.value == "cuda",
            sampler=_sampler(model, stage, work),
            facts={
                "stage": name,
                "recipe": self.recipe.name,
                "recipe_sha256": hashlib.sha256(as_yaml(self.recipe).encode()).hexdigest(),
                "model": spec.model_dump(mode="json"),
                "parent": str(latest.path.name) if latest else start.parent,
            },
            base=start.parent or "",
        )
        work.listeners.append(lambda line: observe(Anomaly(trainer.progress.step, line)))
        observe(
            RunStarted(
                latest.step if latest else 0,
                recipe=self.recipe.name,
                total_steps=work.total_steps,
                parameters=count_parameters(spec).total,
                tokens_per_step=stage.train_batch_size * work.rows * length,
                stage=name,
                device=describe(choices.machine),
                reasons=choices.lines(),
            )
        )
        if latest:
            trainer.resume(latest)
        return trainer.run()


def _sampler(model: Transformer, stage: AnyStage, work: Work) -> Callable[[], list[tuple[str, str]]] | None:
    """Writes text after the stage's sample prompts."""
    words = list(stage.sample_prompts)
    if not stage.sample_tokens or not words:
        return None
    generator = Generator(model, work.tokenizer)
    settings = SamplingSettings(
        max_new_tokens=stage.sample_tokens, temperature=SAMPLE_TEMPERATURE, top_k=SAMPLE_TOP_K
    )
    ids = work.prompts(words)
    shown = [f"{word} → " for word in words] if isinstance(stage, ChatStage) else words

    def sample() -> list[tuple[str, str]]:
        return [(p, done.text) for p, done in zip(shown, generator.generate(ids, settings), strict=True)]

    return sample


def _model(recipe: Recipe, stage: AnyStage, start: Start, latest: Checkpoint | None) -> Transformer:
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
