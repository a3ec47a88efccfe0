"""Speed: steps of recipes and of other programs at their shapes, exact resume, and where the time goes."""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import CUDA, DEVICE, ROOT
from part import Found, Skip

# A rehearsal's shape: every line of code is run, and no figure means anything.
SMALL = [
    "model.hidden_size=64", "model.num_hidden_layers=2", "model.num_attention_heads=4",
    "model.intermediate_size=128", "pretrain.data.sequence_length=64",
]  # fmt: skip


def _measured(recipe: str, rows: int, micro: int | str, steps: int) -> Any:
    """The training step of a recipe, as `linnet bench` measures it."""
    from linnet.hardware import choose, detect
    from linnet.plan import measure_step
    from linnet.recipe import document_stage, load_recipe

    if not CUDA:
        rows, micro, steps = 4, 2, 1
    overrides = [
        f"pretrain.train_batch_size={rows}", f"pretrain.micro_batch_size={micro}",
        "model.dropout=0.0", "model.attention_dropout=0.0", "pretrain.data.num_workers=2",
        "hardware.precision=bf16", f"hardware.compile={'true' if CUDA else 'false'}", *([] if CUDA else SMALL),
    ]  # fmt: skip
    chosen = load_recipe(recipe, overrides)
    stage = document_stage(chosen)
    assert chosen.model is not None
    choices = choose(chosen.hardware, detect(), stage.data.sequence_length)
    return measure_step(chosen.model, stage, stage.data, choices, steps, 2 if CUDA else 1, chosen.seed)


def bench(recipe: str, rows: int, steps: int, micro: int | str = "auto") -> Found:
    """A recipe's training step: tokens per second, utilisation, memory."""
    found = _measured(recipe, rows, micro, steps)
    said = (
        f"{found.tokens_per_second:,.0f} tokens/s, {found.attention}, {found.micro_batch_size} rows at a time"
    )
    return said if CUDA else f"rehearsed small: {said}", dataclasses.asdict(found)


def _peer(name: str, recipe: str, rows: int, micro: int, steps: int, checkout: str = "") -> Found:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import peers

    shape = peers.shape_of(recipe)
    if not CUDA:
        rows, micro, steps = 4, 2, 1
        shape = peers.shape_of(recipe, SMALL)
    found = peers.measure(argparse.Namespace(
        peer=name, recipe=recipe, batch=rows, micro=micro, steps=steps, warmup=2 if CUDA else 1,
        precision="bf16", compile=CUDA, checkout=checkout, shape=peers.json.dumps(shape),
    ))  # fmt: skip
    said = f"{found['tokens_per_second']:,.0f} tokens/s"
    return said if CUDA else f"rehearsed small: {said}", found


def transformers(**options: Any) -> Found:
    """The same step by transformers, compiled as a whole."""
    return _peer("transformers", **options)


def nanogpt(**options: Any) -> Found:
    """The same step by nanoGPT, where a checkout is given."""
    checkout = os.environ.get("NANOGPT", "")
    if not Path(checkout, "model.py").is_file() or not checkout:
        raise Skip("no checkout of nanoGPT: set NANOGPT=DIR or give --nanogpt DIR")
    return _peer("nanogpt", **options, checkout=checkout)


def _train(folder: str, name: str, *more: str) -> tuple[list[str], dict[str, str]]:
    command = [
        sys.executable, "-m", "linnet.cli.main", "train", "quickstart", "--run", f"{folder}/{name}",
        f"hardware.device={DEVICE}", "hardware.deterministic=true", "hardware.compile=false", "stages=[pretrain]",
        "pretrain.duration=40 steps", "pretrain.warmup_steps=5", "pretrain.logging_steps=1", "pretrain.save_steps=10",
        "pretrain.eval_steps=20", "pretrain.sample_tokens=0", "model.dropout=0.1",
        "pretrain.data.sources=[{builtin: world, documents: 1500}]", *more,
    ]  # fmt: skip
    return command, {**os.environ, "LINNET_CACHE": f"{folder}/cache"}


def _finish(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stderr.strip() or "no message")[-300:]


def _kill(command: list[str], environment: dict[str, str], reached: Callable[[], bool]) -> None:
    """Start a run and kill it by SIGKILL once it has come so far."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet)
    while process.poll() is None and not reached():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def resume() -> Found:
    """A run killed by SIGKILL with `deterministic: true` ends in the losses of one never killed."""
    from linnet.observe import StepDone, effective, read_events

    small = [] if CUDA else ["pretrain.train_batch_size=4", "model.num_hidden_layers=1"]
    with tempfile.TemporaryDirectory() as folder:
        _finish(*_train(folder, "whole", *small))
        killed = Path(folder) / "killed"
        _kill(*_train(folder, "killed", *small),
              lambda: bool(list(killed.glob("stages/*/checkpoints/step-00000020"))))  # fmt: skip
        _finish(*_train(folder, "killed", *small))
        found = []
        for name in ("whole", "killed"):
            events = effective(list(read_events(Path(folder) / name / "events.jsonl")))
            found.append([(e.step, e.metrics["train/loss"]) for e in events if isinstance(e, StepDone)])
        assert found[0], "the run logged no losses"
        assert found[0] == found[1], "the losses of the killed run differ"
        return f"{len(found[0])} losses equal to the last bit after a kill", {}


def profile(recipe: str = "dense-180m") -> Found:
    """Where a training step's time goes: the operators that take most of it."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if CUDA else [])]
    with record(activities=activities) as recorded:
        found = _measured(recipe, 16, 8, 3)
    events = recorded.key_averages()

    def cost(event: Any) -> float:
        return event.self_device_time_total if CUDA else event.self_cpu_time_total

    total = sum(map(cost, events)) or 1.0
    lines = [f"{'share':>6} {'calls':>7} {'ms':>10}  operator (warm-up and matrix rate included)"]
    for event in sorted(events, key=cost, reverse=True)[:30]:
        name = event.key[:90]
        lines.append(f"{100 * cost(event) / total:5.1f}% {event.count:7} {cost(event) / 1e3:10.1f}  {name}")
    said = f"{recipe}, {found.tokens_per_second:,.0f} tokens/s while profiled"
    return said, {"table": "\n".join(lines)}


def life() -> Found:
    """A whole life in BF16, and one with `deterministic: true` that is killed in every stage."""
    if not CUDA:
        raise Skip("the tests run whole lives on the CPU")
    sys.path.insert(0, str(ROOT / "tests"))
    import lives

    with tempfile.TemporaryDirectory() as folder:
        recipe = lives.recipe_file(Path(folder))

        def command(name: str, *more: str) -> tuple[list[str], dict[str, str]]:
            words = ["train", str(recipe), "hardware.device=cuda", "hardware.precision=bf16", *more]
            run = [sys.executable, "-m", "linnet.cli.main", *words, "--run", f"{folder}/{name}"]
            return run, dict(os.environ)

        _finish(*command("quick"))
        exact = "hardware.deterministic=true"
        _finish(*command("whole", exact))
        killed = Path(folder) / "killed"
        for stage, step in (("sft", 3), ("dpo", 3), ("rlvr", 3), ("rlvr", 6), ("domain", 2)):
            _kill(*command("killed", exact),
                  lambda stage=stage, step=step: lives.steps_taken(killed).get(stage, 0) >= step)  # fmt: skip
        _finish(*command("killed", exact))
        stories = lives.story(Path(folder) / "whole"), lives.story(killed)
        differing = [stage for stage in stories[0] if stories[0][stage] != stories[1].get(stage)]
        assert not differing, f"these stages differ after kills: {differing}"
        return f"{len(stories[0])} stages; killed five times, all numbers equal to the last bit", {}


PARTS: dict[str, Callable[..., Found]] = {
    "bench": bench,
    "transformers": transformers,
    "nanogpt": nanogpt,
    "resume": resume,
    "profile": profile,
    "life": life,
}
