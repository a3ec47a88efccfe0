"""The run folder: one run, its resolved recipe, its events, its checkpoints.

    RUN/
      recipe.yaml          what is being run, every default filled in
      commits.json         of the Hugging Face datasets and models that it reads
      events.jsonl         what happened, one flat JSON object a line
      scoreboard.json      the scores of each stage on held-out items
      curves.png           the curves of all stages, drawn at the end
      stages/1-pretrain/
        checkpoints/step-00000500/
        end.json           that the stage has come to its end
        curves.png         of this stage with more metrics, where there are several
        scores.json        its scores on held-out items, one by one

The same command run again goes on where it stopped. What may change in between is what
does not change the result of a step: how long, how often to look and save, and where; and
everything about stages that have not begun.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from linnet.config import Layers, RequestError, from_file, validate
from linnet.evaluate.scoreboard import StageScores, scoreboard
from linnet.recipe.lock import LOCK, lock
from linnet.recipe.recipe import Recipe, as_yaml
from linnet.recipe.stages import STAGES, StageName
from linnet.storage import keep
from linnet.train import CheckpointFolder

_MAY_CHANGE = (
    "micro_batch_size",
    "gradient_checkpointing",
    "logging_steps",
    "eval_steps",
    "sample_prompts",
    "sample_tokens",
    "save_steps",
    "save_minutes",
    "save_total_limit",
    "keep_best",
    "early_stopping_patience",
    "preflight",
    "min_refusal",
    "max_over_refusal",
    "gate",
    "evaluation",
    "check_problems",
    "check_samples",
    "data.num_workers",
    "data.preprocessing_processes",
    "data.cache_dir",
    "data.cache_gb",
    "data.retry_minutes",
    "data.audit",
)  # of every stage
_UNTIL_HANDED_ON = ("duration", "hand_on")  # until a later stage has begun
_OUTSIDE = ("description", "hardware", "scoreboard", "stages")

_END = "end.json"


class RunFolder:
    """Where a run lives."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def events(self) -> Path:
        """The log of events."""
        return self.path / "events.jsonl"

    @property
    def curves(self) -> Path:
        """The picture of the curves."""
        return self.path / "curves.png"

    def stage(self, number: int, name: str) -> Path:
        """A stage's folder (numbered from 1)."""
        return self.path / "stages" / f"{number}-{name}"

    def checkpoints(self, number: int, stage: str) -> CheckpointFolder:
        """The checkpoints of a stage."""
        return CheckpointFolder(self.stage(number, stage) / "checkpoints")

    def begun(self, life: Sequence[StageName]) -> list[StageName]:
        """The stages that have a checkpoint, in order."""
        return [
            name
            for number, name in enumerate(life, 1)
            if any(self.checkpoints(number, name).folder.glob("step-*"))
        ]

    def ended(self, number: int, stage: str, duration: str) -> bool:
        """Whether a stage has come to its end, as long as it was to be."""
        try:
            kept = json.loads((self.stage(number, stage) / _END).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(kept, dict) and kept.get("duration") == duration

    def keep_end(self, number: int, stage: str, duration: str, outcome: str) -> None:
        """Note that a stage has come to its end."""
        end = json.dumps({"duration": duration, "outcome": outcome})
        keep(self.stage(number, stage) / _END, end, "the end of the stage")

    def scores(self, life: Sequence[str]) -> list[StageScores]:
        """The scores of the stages that have any, in order; those of the start first."""
        folders = [self.stage(0, "start"), *(self.stage(n, name) for n, name in enumerate(life, 1))]
        return [found for folder in folders if (found := StageScores.load(folder)) is not None]

    def write_scoreboard(self, life: Sequence[str]) -> None:
        """Write `scoreboard.json` of the stages measured so far."""
        text = json.dumps(scoreboard(self.scores(life)), indent=2, ensure_ascii=False)
        keep(self.path / "scoreboard.json", text, "the scoreboard")

    @property
    def commits(self) -> dict[str, str]:
        """The commits of the datasets (`dataset@revision`) and models (`hf:owner/name@revision`) that this run
        reads; empty before it began.

        Raises:
            RequestError: when the file is damaged.
        """
        path = self.path / "commits.json"
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError):
            raise RequestError("this cannot be read, so branches may have moved since this run began", str(path),
                               "restore the file, or remove it to read what they name now") from None  # fmt: skip

    def keep_commits(self, commits: dict[str, str]) -> None:
        """Remember which commits this run reads, so that it goes on with the same text when a branch moves."""
        if commits:
            keep(self.path / "commits.json", json.dumps(commits, indent=2), "which commits this run reads")

    def state(self, life: Sequence[StageName]) -> dict[str, Any]:
        """What decides where a run goes on from: its commits, its checkpoints and the ends of its stages."""
        stages = [self.stage(number, name) for number, name in enumerate(life, 1)]
        steps = [sorted(path.name for path in stage.glob("checkpoints/step-*")) for stage in stages]
        return {"commits": self.commits, "steps": steps, "ended": [(s / _END).exists() for s in stages]}

    def check(self, recipe: Recipe, fresh: bool = False) -> None:
        """Refuse a folder that is not this run's, or cannot be written; touches nothing.

        Args:
            fresh: an earlier run in it may be any, since it is set aside.

        Raises:
            RequestError: says what differs or why it cannot be written.
        """
        kept = self.path / "recipe.yaml"
        if self.path.exists() and not self.path.is_dir():
            raise RequestError("this is a file, not a folder", str(self.path), "give another --run")
        nearest = self.path
        while not nearest.exists():
            nearest = nearest.parent
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise RequestError("the run folder cannot be written", str(nearest), "give another --run")
        if kept.exists():
            if not fresh:
                self._compare(recipe, validate(Recipe, from_file(kept)))
        elif self.path.exists() and any(map(_is_foreign, self.path.iterdir())):
            raise RequestError(
                "this folder holds something other than a run", str(self.path), "give another --run"
            )

    def _compare(self, wanted: Recipe, kept: Recipe) -> None:
        begun = self.begun(kept.life) or kept.life[:1]
        if wanted.life[: len(begun)] != begun:
            raise RequestError(
                f"this run has trained {', '.join(begun)}, and {', '.join(wanted.life)} does not begin with that",
                str(self.path), "keep the order of the stages, or give another --run, or --fresh",
            )  # fmt: skip
        before, now = _leaves(kept.model_dump(mode="json")), _leaves(wanted.model_dump(mode="json"))
        changed = [
            key
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and not _may_change(key, begun)
        ]
        if changed:
            key = changed[0]
            more = f" (and other values of {', '.join(changed[1:])})" if len(changed) > 1 else ""
            raise RequestError(
                f"this run was begun with {key}={_short(before.get(key))}, not {_short(now.get(key))}{more}",
                str(self.path),
                "to go on, repeat the KEY=VALUE it was begun with; else give another --run, or --fresh",
            )

    def _set_aside(self) -> None:
        """Rename an earlier run, so that a fresh one can begin; nothing is deleted."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        aside = self.path.with_name(f"{self.path.name}.{stamp}")
        count = 1
        while aside.exists():
            count += 1
            aside = self.path.with_name(f"{self.path.name}.{stamp}-{count}")
        try:
            self.path.rename(aside)
        except OSError as error:
            raise RequestError(f"the earlier run cannot be set aside ({error.strerror})", str(self.path),
                               "give another --run") from None  # fmt: skip

    @contextmanager
    def opened(
        self, recipe: Recipe, state: Mapping[str, Any] | None = None, fresh: bool = False
    ) -> Iterator[None]:
        """Lock the folder, check it again under the lock, write the recipe, and keep other processes out while open.

        Args:
            state: what the folder was when the request was checked. fresh: set an earlier run aside.

        Raises:
            RequestError: when the folder cannot be made, is not this run's, or another process is training this run
                or has done so since.
        """
        with ExitStack() as locks:
            locks.callback(os.close, lock(self.path))
            if fresh and (self.path / "recipe.yaml").exists():
                self._set_aside()  # its lock is still held: nobody goes on with what was just renamed
                locks.callback(os.close, lock(self.path))
            self.check(recipe)
            if state is not None and state != self.state(recipe.life):
                raise RequestError("another process has trained this run since this command was started",
                                   str(self.path), "run the same command again")  # fmt: skip
            keep(self.path / "recipe.yaml", as_yaml(recipe), "the recipe")
            yield


def _is_foreign(path: Path) -> bool:
    """Whether a file cannot come from a run that was killed at its very beginning."""
    return path.name != LOCK and path.suffix != ".part"


def read_recipe(path: Path) -> Recipe:
    """The recipe of a run folder.

    Raises:
        RequestError: when there is none.
    """
    layers: Layers = from_file(path / "recipe.yaml")
    return validate(Recipe, layers)


def _may_change(key: str, begun: Sequence[str]) -> bool:
    """Whether a run may go on with another value of a key; begun: stages that have taken a step."""
    if key.startswith(_OUTSIDE):
        return True
    name, _, rest = key.partition(".")
    if name not in STAGES:
        return False
    if name not in begun:
        return True
    return rest.startswith(_MAY_CHANGE) or (rest in _UNTIL_HANDED_ON and name == begun[-1])


def _short(value: Any) -> str:
    """A value as a person would write it: what is not set left out."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_short(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_short, value)) + "]"
    return "null" if value is None else str(value)


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for key, inner in value.items():
            found |= _leaves(inner, f"{path}.{key}" if path else key)
        return found
    return {path: value}
