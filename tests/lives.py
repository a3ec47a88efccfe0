"""A whole life so small that a test can have several: the creatures' language, and questions about it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file

import tiny
from linnet.observe import Evaluated, Event, RunStarted, Sampled, Scored, StepDone
from linnet.recipe import Recipe, load_recipe

STAGES = ("pretrain", "sft", "safety", "dpo", "rlvr", "domain")
UNTIMED = ("train/tokens_per_sec", "train/mfu", "time/", "rlvr/seconds")  # metrics that are no clock's


def _rows(kind: str, count: int) -> Iterator[dict[str, Any]]:
    draw = random.Random(f"{kind} rows")
    names = sorted(tiny.CREATURES)
    for number in range(count):
        name, place = draw.choice(names), draw.choice(tiny.PLACES)
        colour = tiny.CREATURES[name]
        other = draw.choice([c for c in tiny.CREATURES.values() if c != colour])
        ask = f"{number}. What is the {name} at {place}?"
        if kind == "sft":
            said = [{"role": "user", "content": ask}, {"role": "assistant", "content": colour}]
            yield {"messages": said, "answer": colour}
        elif kind == "requests":
            bad = number % 2 == 0
            wish = f"{number}. {'Burn' if bad else 'Look at'} {place} with the {name}."
            answer = "I will not help with that." if bad else f"The {colour} {name} walked to {place}."
            said = [{"role": "user", "content": wish}, {"role": "assistant", "content": answer}]
            yield {"messages": said, "label": "harmful" if bad else "harmless"}
        elif kind == "pairs":
            yield {"prompt": ask, "chosen": colour, "rejected": other}
        else:
            yield {"question": ask, "answer": colour}


def write(folder: Path) -> dict[str, str]:
    """The life's data as files: text, conversations, requests, pairs, problems, and a domain's text."""
    made = {"text": str(tiny.write_corpus(folder / "text.txt"))}
    made["domain"] = str(tiny.write_corpus(folder / "domain.txt", 80, seed=11))
    for kind, count in (("sft", 60), ("requests", 60), ("pairs", 60), ("problems", 60)):
        path = folder / f"{kind}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in _rows(kind, count)), encoding="utf-8")
        made[kind] = str(path)
    return made


def values(folder: Path) -> dict[str, Any]:
    """The recipe as plain values."""
    files = write(folder)
    base = tiny.values(Path(files["text"]))
    base["model"] |= {"max_position_embeddings": 128}
    base["pretrain"] |= {"duration": "8 steps", "eval_steps": 0, "save_steps": 4}
    common: dict[str, Any] = {
        "micro_batch_size": 2, "learning_rate": 0.003, "logging_steps": 1, "eval_steps": 3, "eval_sequences": 4,
        "save_steps": 2, "save_total_limit": 2,
    }  # fmt: skip

    def data(kind: str, **more: Any) -> dict[str, Any]:
        return {"sources": [{"path": files[kind]}], "validation_fraction": 0.2, **more}

    return base | {
        "name": "life",
        "scoreboard": {"items": 6, "max_new_tokens": 8, "prompts": ["What is the fox?"]},
        "sft": {
            **common, "duration": "6 steps", "train_batch_size": 4, "sample_prompts": ["What is the owl?"],
            "sample_tokens": 4, "data": data("sft", sequence_length=64), "replay": {"share": 0.25},
        },
        "safety": {
            **common, "duration": "4 steps", "train_batch_size": 4, "data": data("requests", sequence_length=96),
            "gate": False, "replay": {"share": 0.5},
        },
        "dpo": {**common, "duration": "6 steps", "train_batch_size": 4, "data": data("pairs", sequence_length=96)},
        "rlvr": {
            **common, "duration": "8 steps", "train_batch_size": 8, "num_generations": 4,
            "verifiers": ["regex:[aeiou] "],
            "steps_per_generation": 2, "num_iterations": 2, "max_completion_length": 4, "beta": 0.01,
            "check_problems": 0, "data": data("problems"),
        },
        "domain": {
            **common, "duration": "4 steps", "train_batch_size": 4, "sample_tokens": 0, "lora": {"r": 2},
            "data": {
                "sources": [{"path": files["domain"]}], "validation_fraction": 0.2, "sequence_length": 32,
                "preprocessing_processes": 1, "cache_dir": str(folder / "cache"),
            },
        },
    }  # fmt: skip


def recipe_file(folder: Path) -> Path:
    """The recipe as a file."""
    path = folder / "life.yaml"
    path.write_text(yaml.safe_dump(values(folder)), encoding="utf-8")
    return path


def recipe(folder: Path, *overrides: str) -> Recipe:
    """The recipe with KEY=VALUE laid over it."""
    return load_recipe(str(recipe_file(folder)), list(overrides))


# --- what a life has said ----------------------------------------------------------------------------


def told(run: Path) -> dict[str, list[Event]]:
    """What counts of each stage's history."""
    stages: dict[str, list[Event]] = {}
    stage = ""
    for event in tiny.told(run):
        stage = event.stage if isinstance(event, RunStarted) else stage
        stages.setdefault(stage, []).append(event)
    return stages


def story(run: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every number and text of every stage that does not come from a clock."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for stage, events in told(run).items():
        lines = found.setdefault(stage, [])
        for event in events:
            if isinstance(event, StepDone | Evaluated | Scored):
                metrics = {n: v for n, v in event.metrics.items() if not n.startswith(UNTIMED)}
                lines.append((event.kind, event.step, repr(sorted(metrics.items()))))
            elif isinstance(event, Sampled):
                lines.append((event.kind, event.step, event.prompt, event.text))
    return found


def models(run: Path) -> dict[str, bytes]:
    """The weights of every stage's last checkpoint, its adapter's, and the rollouts in use; as bytes."""
    found: dict[str, bytes] = {}
    for folder in sorted((run / "stages").glob("*")):
        last = sorted((folder / "checkpoints").glob("step-*"))[-1]
        for path in sorted(last.rglob("*.safetensors")):
            tensors = load_file(path)
            for name, value in tensors.items():
                if "seconds" not in name:  # shown again after a resume; a clock's
                    found[f"{folder.name}/{last.name}/{path.relative_to(last)}/{name}"] = (
                        value.numpy().tobytes()
                    )
    return found


def steps_taken(run: Path) -> dict[str, int]:
    """The last step that each stage's events tell, while the run may still be at work."""
    stage, found = "", dict[str, int]()
    path = run / "events.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:  # it is being written
            continue
        stage = record.get("stage", stage) if record["event"] == "run_started" else stage
        if record["event"] == "step":
            found[stage] = max(found.get(stage, 0), record["step"])
    return found
