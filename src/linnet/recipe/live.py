"""Living a recipe: from its text through all its stages to a model in a run folder.

Everything that can be refused is refused before the run folder is touched: also what a later stage would
trip over days from now, a dataset without the columns it needs, a verifier that is not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from linnet.config import RequestError, RunError, one_line
from linnet.data.shards.progress import Progress as BuildObserver
from linnet.data.sources.hub import commits, pin
from linnet.evaluate.scoreboard import StageScores
from linnet.hardware import describe, peak_flops
from linnet.infer.hub_model import model_commits, pin_models
from linnet.model import (
    count_parameters,
    flops_per_token,
    score_flops,
)
from linnet.observe import Anomaly, EventLog, Observer, Observers, RunStarted, Scored, draw
from linnet.recipe.chat_stages import check_ahead, prepare
from linnet.recipe.documents import prepare_documents
from linnet.recipe.folder import RunFolder
from linnet.recipe.pins import Digests, began_with, check_pins, kept_folder, pins_of
from linnet.recipe.recipe import Recipe, as_yaml
from linnet.recipe.sampling import check_prompts, sampler
from linnet.recipe.scores import Scorer, check_gates, gated
from linnet.recipe.stages import AnyStage, ChatStage, StageName
from linnet.recipe.starts import begun_model, check_start, chosen_start, first_start, tokenizer_note
from linnet.recipe.work import Show, Start, Work
from linnet.train import Checkpoint, Meter, Outcome, Trainer, verify
from linnet.train.engines import LocalEngine

_AGAIN = "the same command measures it again"
_UNPINNED = (
    "this checkpoint is of a Linnet that kept no digest of what a stage begins with: it could not be verified "
    "that this is still the same"
)


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
    run.check(recipe, fresh)
    state = None if fresh else run.state(recipe.life)
    if state is not None:
        pin(state["commits"])
        pin_models(state["commits"])
    life = _Life(recipe, run, on_build, show, fresh)
    names = life.to_live(only, fresh)
    first = life.prepared(names[0]) if names else None
    start = life.start(names[0]) if names[1:] else None
    for name in names[1:]:
        assert start is not None
        start = check_ahead(recipe, name, start)
    with run.opened(recipe, state, fresh):
        life.fresh = False
        observers = Observers(EventLog(run.events), *watch(run))
        outcome: Outcome = "finished"
        try:
            life.measure_start(observers)
            for name in names:
                work = first or life.prepared(name)
                first = None
                run.keep_commits(commits() | model_commits())
                try:
                    outcome = life.run_stage(name, work, observers)
                finally:
                    work.close()
                    run.keep_commits(commits() | model_commits())
                if outcome == "stopped":
                    return outcome
            life.measure_rest(observers, only)
        except RunError:  # a gate is shut, say: what was learned until then is shown all the same
            with suppress(RunError):
                _draw(run, run.curves, None)
            raise
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

    def __init__(
        self, recipe: Recipe, run: RunFolder, on_build: BuildObserver | None, show: Show, fresh: bool
    ) -> None:
        self.recipe, self.run, self.on_build, self.show, self.fresh = recipe, run, on_build, show, fresh
        self.pins: dict[StageName, Digests] = {}
        self.scorer = Scorer(recipe, on_build)
        self.unmeasured: dict[str, str] = {}  # what failed while a stage was measured

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
        if recipe.stage(name).init_from is not None:
            return check_start(recipe, name, kept_folder(self.latest(name)))
        if index == 0:
            return first_start(recipe, name)
        before = recipe.life[index - 1]
        return chosen_start(self.run.checkpoints(index, before), recipe.stage(before))

    def latest(self, name: StageName) -> Checkpoint | None:
        """A stage's latest checkpoint; none where an earlier run is about to be set aside."""
        return None if self.fresh else self.run.checkpoints(self.number(name), name).latest()

    def prepared(self, name: StageName) -> Work:
        """A stage's work, from the model that it begins with.

        Raises:
            RequestError: also when that model, or what judges answers, is not what the stage began with.
        """
        start, stage = self.start(name), self.recipe.stage(name)
        self.pins[name] = pins_of(stage, start)
        latest = self.latest(name)
        if latest:
            check_pins(latest, self.pins[name])
        note = tokenizer_note(self.recipe, name)
        if note:
            self.show(lambda _: note)
        work: Work
        if isinstance(stage, ChatStage):
            work = prepare(self.recipe, name, start, self.show, self.on_build)
        else:
            work = prepare_documents(self.recipe, name, start, self.on_build)
        try:
            check_prompts(name, stage, start.spec, work.prompts)
        except RequestError:
            work.close()
            raise
        return work

    def measure_start(self, observe: Observer) -> None:
        """Measure the model that a life begins with, where it does not begin with fresh weights."""
        name = self.recipe.life[0]
        folder = self.run.stage(0, "start")
        if not self.scorer.wanted or name in self.run.begun(self.recipe.life):
            return
        start = self.start(name)
        if start.folder is not None:
            self._score("start", folder, start.folder, 0, observe, self.pins[name])

    def run_stage(self, name: StageName, work: Work, observe: Observer) -> Outcome:
        """Train a stage from its latest checkpoint, measure what came of it, and check the gates."""
        stage = self.recipe.stage(name)
        outcome = self._train(name, stage, work, observe)
        if outcome != "stopped":
            self.run.keep_end(self.number(name), name, str(stage.duration), outcome)
        if len(self.recipe.life) > 1:
            try:
                _draw(self.run, self.folder(name) / "curves.png", name)
            except RunError as error:
                observe(Anomaly(work.total_steps, error.line()))
        if outcome != "stopped" and self.scorer.wanted:
            chosen = self.run.checkpoints(self.number(name), name).chosen(stage.hand_on)
            self._score(name, self.folder(name), chosen.model_folder, chosen.step, observe)
        return outcome

    def _score(
        self, title: str, folder: Path, model: Path, step: int, observe: Observer, weights: object = None
    ) -> None:
        """Measure a model and check its gates. Where no gate needs the scores, a failure is an anomaly.

        Raises:
            RunError: a gate is not passed, or cannot be told.
        """
        before = StageScores.load(folder)
        try:
            key = self.scorer.measured_on(model, weights)
            if before is None or (before.step, before.measured_on) != (step, key):
                scores = replace(self.scorer.measure(title, model, step), measured_on=key)
                scores.save(folder)
                observe(Scored(step, {f"score/{s.suite}": s.rate.value for s in scores.scores}, stage=title))
            self.run.write_scoreboard(self.recipe.life)
        except Exception as error:
            what = f"{title} could not be measured ({one_line(error)})"
            if gated(self.recipe, title):
                raise RunError(what, str(folder), f"{title} is trained and saved; {_AGAIN}") from None
            if step:
                self.unmeasured[title] = what
            observe(Anomaly(step, f"{what}; the run goes on"))
            return
        check_gates(self.recipe, self.run, title)

    def measure_rest(self, observe: Observer, only: str | None) -> None:
        """Measure the stages whose scores an earlier failure left out, and check every gate.

        A life that was stopped at a gate does not pass it by being run again.

        Raises:
            RunError: a gate is not passed, or a stage still cannot be measured.
        """
        begun = self.run.begun(self.recipe.life)
        for name in begun if self.scorer.wanted and only is None else ():
            folder = self.folder(name)
            if name in self.unmeasured or StageScores.load(folder) is not None:
                continue
            chosen = self.run.checkpoints(self.number(name), name).chosen(self.recipe.stage(name).hand_on)
            self._score(name, folder, chosen.model_folder, chosen.step, observe)
        for name in self.recipe.life:
            check_gates(self.recipe, self.run, name)
        for title, what in self.unmeasured.items():
            raise RunError(what, str(self.run.path), f"{title} is trained and saved; {_AGAIN}")

    def _train(self, name: StageName, stage: AnyStage, work: Work, observe: Observer) -> Outcome:
        checkpoints = self.run.checkpoints(self.number(name), name)
        checkpoints.clean()
        latest = checkpoints.latest()
        if latest:
            verify(latest)
        start = self.start(name)
        model = begun_model(self.recipe, stage, start, latest)
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
            sampler=sampler(model, stage, work),
            facts={
                "stage": name,
                "recipe": self.recipe.name,
                "recipe_sha256": hashlib.sha256(as_yaml(self.recipe).encode()).hexdigest(),
                "model": spec.model_dump(mode="json"),
                "parent": str(latest.path.name) if latest else start.parent,
                **began_with(start, self.pins[name]),
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
            if not check_pins(latest, self.pins[name]) and self.pins[name]:
                observe(Anomaly(latest.step, _UNPINNED))
            trainer.resume(latest)
        return trainer.run()
