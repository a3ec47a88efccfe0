"""The one loop: every stage is this, with another objective and other data.

What makes a resumed run equal to an uninterrupted one: the batch of a step is computed from
its number, dropout is drawn from its number, the learning rate is a function of its number,
and the rest (weights, optimizer state, loss scale, best so far) is in the checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

from linnet.config import LinnetError, RequestError, RunError, one_line
from linnet.data.batches import Batch, Batches
from linnet.objectives import Objective
from linnet.observe import Anomaly, Evaluated, Observer, Resumed, RunEnded, Sampled, Saved, StepDone
from linnet.text import Tokenizer
from linnet.train.checkpoint import Checkpoint
from linnet.train.checkpoints import CheckpointFolder
from linnet.train.engines import Engine, StopRequested, Terms, Update, stop_where
from linnet.train.meter import Meter
from linnet.train.schedules import Schedule, schedule
from linnet.train.settings import TrainSettings
from linnet.train.stopping import StopSignals
from linnet.train.validation import Evaluation, Validation

Outcome = Literal["finished", "early stopping", "stopped"]
SKIPPED_IN_A_ROW = 25  # a loss scale of 65,536 has halved to nothing useful by then


@dataclass
class Progress:
    """What a run has come to, besides weights and optimizer state. best_score: see Evaluation."""

    step: int = 0
    tokens: int = 0
    best_score: float = math.inf
    best_step: int | None = None
    evaluations_since_best: int = 0
    evaluated_at: int = -1
    skipped: int = 0
    skipped_in_a_row: int = 0


@dataclass
class Trainer:
    """One stage: an engine, an objective, its data, and when to look and save.

    Args:
        validation: measures the model on what is held out; None where nothing is. data_fingerprint:
            what decides the bytes of all sources.
        sampler: turns the model into samples of text: a list of (prompt, text).
        facts: what every checkpoint's manifest should say (recipe hash, parent, model specification).
        base: of an adapter, the stock model that is adapted.
    """

    engine: Engine
    objective: Objective
    batches: Batches
    validation: Validation | None
    settings: TrainSettings
    total_steps: int
    tokenizer: Tokenizer
    checkpoints: CheckpointFolder
    observe: Observer
    meter: Meter
    data_fingerprint: str
    workers: int = 0
    pin_memory: bool = False
    sampler: Callable[[], Sequence[tuple[str, str]]] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    base: str = ""
    progress: Progress = field(default_factory=Progress)

    def run(self) -> Outcome:
        """Train until done, stopped early, or asked to stop; a checkpoint of the end is always there.

        Raises:
            RunError: when a save fails, or the loss stays beyond numbers; what was saved is intact.
        """
        began = time.perf_counter()
        with StopSignals() as stop:
            try:
                outcome = self._loop(stop)
            except StopRequested:
                outcome = "stopped"
            except DataLost as lost:
                if not self._is_saved():
                    self.save()
                error = lost.error
                self.observe(RunEnded(self.progress.step, f"failed: {error}", time.perf_counter() - began))
                raise RunError(error.what, error.where, lost.mend(self.progress.step)) from None
            except BaseException as error:
                if isinstance(error, Exception):
                    self._keep()
                self.observe(RunEnded(self.progress.step, f"failed: {error}", time.perf_counter() - began))
                raise
            if not self._is_saved():
                self.save()
        self.observe(RunEnded(self.progress.step, outcome, time.perf_counter() - began))
        return outcome

    def _keep(self) -> None:
        """After a failure, save the steps since the last checkpoint, where weights and progress agree."""
        if not self._between_steps or self._is_saved():
            return
        try:
            self.save()
        except Exception as error:  # the first failure is the one to report
            self.observe(Anomaly(self.progress.step, f"the last steps could not be saved: {one_line(error)}"))

    def _loop(self, stop: StopSignals) -> Outcome:
        at = self.progress
        rate = schedule(self.settings, self.total_steps)
        self.batches.stop_when(stop)
        stream = self.batches.stream(at.step, self.total_steps, self.workers, self.pin_memory)
        self.meter.start()
        with closing(stream):
            return self._steps(stream, rate, stop)

    def _steps(self, stream: Iterator[Batch], rate: Schedule, stop: StopSignals) -> Outcome:
        s, at = self.settings, self.progress
        while True:
            # Looking and saving come first: a stop may have cut this step's evaluation short.
            looks = self.validation is not None or self.sampler is not None
            if looks and self._due(s.eval_steps) and at.evaluated_at != at.step:
                self.evaluate(stop)
            due = self._due(s.save_steps) or self._save_is_due_by_clock() or self._is_best()
            if due and not self._is_saved():
                self.save()
            if stop():
                raise StopRequested
            if at.step >= self.total_steps:
                return "finished"
            if self._stopped_early():
                return "early stopping"
            with self.meter.waiting_for_data():
                batch = self._next(stream, stop)
            if batch is None:
                self._used_up()
                continue
            batch = self.objective.prepare(self.engine.model, batch, at.step, partial(stop_where, stop))
            terms = self.engine.accumulate(self.objective, batch, at.step, stop)
            learning_rate = rate(at.step)
            self._between_steps = False
            update = self.engine.update(terms, learning_rate)
            self._count(batch, terms, update, learning_rate)

    def _next(self, stream: Iterator[Batch], stop: StopSignals) -> Batch | None:
        """The next batch, or None when the sources are used up."""
        try:
            return next(stream, None)
        except LinnetError as error:
            if stop():  # it was waited for in vain, and now by nobody
                raise StopRequested from None
            raise DataLost(error) from None

    def _used_up(self) -> None:
        """End the run here: it is whole, if shorter than it was meant to be."""
        at = self.progress.step
        self.observe(
            Anomaly(at, f"the sources are used up after step {at} of {self.total_steps}: the run ends here")
        )
        self.total_steps = at

    def _due(self, every: int) -> bool:
        step = self.progress.step
        return step >= self.total_steps or bool(every and step and step % every == 0)

    def _is_best(self) -> bool:
        return self.progress.best_step == self.progress.step

    def _is_saved(self) -> bool:
        return self._saved_step == self.progress.step

    def _stopped_early(self) -> bool:
        patience = self.settings.early_stopping_patience
        return bool(patience and self.progress.evaluations_since_best >= patience)

    def _save_is_due_by_clock(self) -> bool:
        minutes = self.settings.save_minutes
        return bool(minutes and time.monotonic() - self._saved_at >= 60 * minutes)

    def _count(self, batch: Batch, terms: Terms, update: Update, learning_rate: float) -> None:
        at = self.progress
        at.step += 1
        at.tokens += batch.tokens.numel()
        square = batch.tokens.numel() * batch.tokens.shape[1]
        self.meter.step(batch.tokens.numel(), square - batch.pairs)
        if update.applied:
            at.skipped_in_a_row = 0
        else:
            at.skipped, at.skipped_in_a_row = at.skipped + 1, at.skipped_in_a_row + 1
            self.observe(
                Anomaly(at.step, f"loss or gradients are not finite: step {at.step} changed nothing")
            )
            if at.skipped_in_a_row >= SKIPPED_IN_A_ROW:
                raise RunError(
                    f"{SKIPPED_IN_A_ROW} steps in a row had a loss or gradients that are not finite", "",
                    "lower learning_rate or use hardware.precision=bf16; the last checkpoint is intact",
                )  # fmt: skip
        self._between_steps = True
        if not terms.counted:
            self.observe(Anomaly(at.step, f"no token of step {at.step} is counted; it taught nothing"))
        means = terms.means()
        self.objective.heard(at.step, means)
        if at.step % self.settings.logging_steps == 0 or at.step in (1, self.total_steps):
            metrics = {
                "train/loss": terms.mean(),
                "train/grad_norm": update.grad_norm,
                "train/lr": learning_rate,
                "train/tokens": at.tokens,
                "train/progress_percent": 100 * at.step / self.total_steps,
            }
            passes = self.batches.passes(at.step)
            epochs = {f"data/{title}/epochs": count for title, count in passes.items()}
            metrics |= means | self.objective.report() | epochs | self.meter.read()
            self.observe(StepDone(at.step, metrics))
        for line in (*self.batches.news(at.step - 1, at.step), *self.objective.news()):
            self.observe(Anomaly(at.step, line))

    def evaluate(self, interrupted: Callable[[], bool] = lambda: False) -> float:
        """Measure on what is held out, the same every time; notes the best; shows samples of text.

        Returns:
            What a better model has less of; see Evaluation.
        """
        at = self.progress
        found = Evaluation(math.inf, {})
        if self.validation is not None:
            found = self.validation(self.engine, self.objective, interrupted)
            if found.score < at.best_score:
                at.best_score, at.evaluations_since_best = found.score, 0
                at.best_step = at.step if self.settings.keep_best else None
            else:
                at.evaluations_since_best += 1
        at.evaluated_at, self._saved_step = at.step, -1  # a checkpoint of this step does not know of it yet
        if self.validation is not None:
            self.observe(Evaluated(at.step, found.metrics))
        self._show_samples()
        self.meter.start()
        return found.score

    def _show_samples(self) -> None:
        if self.sampler is None:
            return
        try:
            samples = self.sampler()
        except Exception as error:  # text for a person to read is no reason to lose a run
            self.observe(Anomaly(self.progress.step, f"no samples were drawn: {one_line(error)}"))
            return
        for prompt, text in samples:
            self.observe(Sampled(self.progress.step, prompt, text))

    _between_steps: bool = True  # weights, optimizer and progress are of one step
    _saved_step: int = -1
    _saved_at: float = field(default_factory=time.monotonic)

    def save(self) -> Checkpoint:
        """Save a checkpoint of this step, name the best, and remove what need not be kept."""
        began = time.perf_counter()
        at = self.progress
        trainer = {
            "progress": asdict(at),
            "engine": self.engine.numbers(),
            "data_fingerprint": self.data_fingerprint,
            "order_fingerprint": self.batches.fingerprint(at.step),
            "data": self.batches.state(at.step),
        }
        facts = {"tokens": at.tokens, "best": self._best(), **self.facts}
        saved = self.checkpoints.save(
            at.step, self.engine.model, self.tokenizer, self.engine.optimizer_state(), trainer, facts,
            self.objective.state(), self.base,
        )  # fmt: skip
        self._mark_best()
        self.checkpoints.retain(self.settings.save_total_limit, at.best_step)
        self._saved_step, self._saved_at = at.step, time.monotonic()
        self.observe(Saved(at.step, str(saved.path), time.perf_counter() - began))
        self.meter.start()
        return saved

    def _best(self) -> dict[str, float]:
        """The best that was measured, by its name."""
        if self.validation is None or not math.isfinite(self.progress.best_score):
            return {}
        sign = -1 if self.validation.higher_is_better else 1
        return {self.validation.metric: sign * self.progress.best_score}

    def _mark_best(self) -> None:
        """Name the best that is kept in `best.json`; without one the file goes, since it would name what is removed."""
        best = [*self._best().items()] if self.progress.best_step is not None else []
        for metric, value in best:
            self.checkpoints.mark_best(self.progress.best_step, metric, value)
        if not best:
            self.checkpoints.mark_best(None)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint, verified, whose model the engine already holds.

        Raises:
            RequestError: when the data is no longer what the run began with.
        """
        state = checkpoint.trainer_state()
        step = state["progress"]["step"]
        if state["data_fingerprint"] != self.data_fingerprint:
            raise RequestError(
                "the data is not what this run began with (its text or tokenizer changed)",
                str(checkpoint.path), "restore it, or start another run with --run DIR or --fresh",
            )  # fmt: skip
        if state["order_fingerprint"] != self.batches.fingerprint(step):
            raise RequestError(
                f"the {step} steps that are done were drawn otherwise than these settings say (the seed, the "
                "sequences, the weights, or a phase of the schedule, which begins at a share of the duration)",
                str(checkpoint.path), "repeat what it was begun with, its duration too, or start another run "
                "with --run DIR or --fresh",
            )  # fmt: skip
        self.batches.restore(state["data"])
        self.engine.load_optimizer_state(checkpoint.load_tensors)
        self.engine.load_numbers(state["engine"])
        self.objective.load_state(checkpoint.objective_state())
        self.progress = Progress(**state["progress"])
        self._saved_step = self.progress.step
        self._mark_best()  # a kill may have come between the save and this
        self.observe(Resumed(self.progress.step, str(checkpoint.path)))


class DataLost(Exception):
    """The next batch cannot be had."""

    def __init__(self, error: LinnetError) -> None:
        super().__init__(str(error))
        self.error = error

    def mend(self, step: int) -> str:
        """What to do: everything up to `step` is safe."""
        return f"{self.error.mend}; step {step} is saved, and the same command goes on from it".lstrip("; ")
