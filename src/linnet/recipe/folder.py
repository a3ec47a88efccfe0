"""The run folder: one run, its resolved recipe, its events, its checkpoints.

    RUN/
      recipe.yaml          what is being run, every default filled in
      commits.json         of the Hugging Face datasets that it reads
      events.jsonl         what happened, one flat JSON object a line
      scoreboard.json      what each stage came to on held-out suites
      curves.png           the curves of all stages, drawn at the end
      stages/1-pretrain/checkpoints/step-00000500/
                        end.json       that it has come to its end
                        curves.png     of this stage with more metrics, where there are several
                        scores.json    what it came to on held-out items, one by one

The same command run again goes on where it stopped. What may change in between is what
does not change the result of a step: how long, how often to look and save, and where; and
everything about stages that have not begun.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from linnet.config import Layers, RequestError, RunError, from_file, validate
from linnet.data.shards.writing import write_durably
from linnet.evaluate.scoreboard import StageScores, scoreboard
from linnet.recipe.recipe import Recipe, as_yaml
from linnet.recipe.stages import STAGES, StageName
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

_BEGINNING = (
    ".lock",
    ".recipe.yaml.part",
    ".commits.json.part",
)  # all that a run killed at its very beginning leaves


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
        write_durably(self.stage(number, stage) / _END, end.encode())

    def scores(self, life: Sequence[str]) -> list[StageScores]:
        """The scores of the stages that have any, in order; those of the start first."""
        folders = [self.stage(0, "start"), *(self.stage(n, name) for n, name in enumerate(life, 1))]
        return [found for folder in folders if (found := StageScores.load(folder)) is not None]

    def write_scoreboard(self, life: Sequence[str]) -> None:
        """Write `scoreboard.json` of the stages measured so far."""
        text = json.dumps(scoreboard(self.scores(life)), indent=2, ensure_ascii=False)
        write_durably(self.path / "scoreboard.json", text.encode())

    @property
    def commits(self) -> dict[str, str]:
        """The commits of the datasets that this run reads, by `dataset@revision`; empty before it began."""
        try:
            return dict(json.loads((self.path / "commits.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def keep_commits(self, commits: dict[str, str]) -> None:
        """Remember which commits this run reads, so that it goes on with the same text when a branch moves."""
        if commits:
            self._write("commits.json", json.dumps(commits, indent=2))

    def _write(self, name: str, text: str) -> None:
        """Write a file of the run so that it is there whole or not at all."""
        aside = self.path / f".{name}.part"
        aside.write_text(text, encoding="utf-8")
        aside.replace(self.path / name)

    def check(self, recipe: Recipe) -> None:
        """Refuse a folder that is not this run's, or cannot be written; touches nothing.

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
            self._compare(recipe, validate(Recipe, from_file(kept)))
        elif self.path.exists() and any(item.name not in _BEGINNING for item in self.path.iterdir()):
            raise RequestError(
                "this folder holds something else than a run", str(self.path), "give another --run"
            )

    def _compare(self, wanted: Recipe, kept: Recipe) -> None:
        begun = self.begun(kept.life) or kept.life[:1]
        if wanted.life[: len(begun)] != begun:
            raise RequestError(
                f"this run has lived {', '.join(begun)}, which is not how {', '.join(wanted.life)} begins",
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
            more = f" (and another {', '.join(changed[1:])})" if len(changed) > 1 else ""
            raise RequestError(
                f"this run was begun with {key}={_short(before.get(key))}, not {_short(now.get(key))}{more}",
                str(self.path),
                "to go on, repeat the KEY=VALUE it was begun with; else give another --run, or --fresh",
            )

    def set_aside(self) -> Path | None:
        """Rename an earlier run, so that a fresh one can begin; nothing is deleted."""
        if not self.path.exists():
            return None
        stamp = time.strftime("%Y%m%d-%H%M%S")
        aside = self.path.with_name(f"{self.path.name}.{stamp}")
        count = 1
        while aside.exists():
            count += 1
            aside = self.path.with_name(f"{self.path.name}.{stamp}-{count}")
        self.path.rename(aside)
        return aside

    @contextmanager
    def opened(self, recipe: Recipe) -> Iterator[None]:
        """Make the folder, write the recipe, and keep other processes out while open.

        Raises:
            RequestError: when the folder cannot be made or another process is training this run.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / ".lock").open("w")
        except OSError as error:
            raise RequestError(f"the run folder cannot be written ({error.strerror})", str(self.path),
                               "give another --run") from None  # fmt: skip
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RequestError("another process is training this run", str(self.path),
                                   "wait for it, or give another --run") from None  # fmt: skip
            try:
                self._write("recipe.yaml", as_yaml(recipe))
            except OSError as error:
                raise RunError(f"the recipe cannot be written ({error.strerror})", str(self.path),
                               "make room and run the same command again") from None  # fmt: skip
            yield


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
    return str(value)


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for key, inner in value.items():
            found |= _leaves(inner, f"{path}.{key}" if path else key)
        return found
    return {path: value}
