"""Everything that needs a GPU, checked and measured in one run: `make gpu-check`.

    python benchmarks/gpu_check.py [--only checks|recipes|peers] [--nanogpt DIR] [--seconds 540]

On a machine without a CUDA device it says what it skipped and passes. With one it checks BF16
and FP16 steps, compilation, the loss, every attention path against a reference, and exact
resume with `deterministic: true`; then it measures every shipped recipe's training step and
other programs at the same shapes. Results are written to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "src"))

# name → rows of a step and of a micro-batch where "auto" is not wanted: about 130,000 tokens a step
RECIPES = {
    "tinystories-30m": 1024,
    "smol-160m": 64,
    "dense-180m": 64,
    "smol-600m": 64,
    "gpt2-1b": 32,
    "slm-1.3b": 32,
}
MODEL = {
    "vocab_size": 512, "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 256, "max_position_embeddings": 256,
}  # fmt: skip


def tiny(architecture: str = "qwen3", **changes: Any) -> Any:
    """A small model's specification."""
    from linnet.model import ModelSpec

    return ModelSpec(architecture=architecture, **{**MODEL, **changes})


def reference_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, documents: torch.Tensor
) -> torch.Tensor:
    """Explicit softmax in FP64; q, k, v [B, T, heads, head], documents [B, T]."""
    groups = q.shape[2] // k.shape[2]
    q, k, v = (x.double().transpose(1, 2) for x in (q, k, v))
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    same = documents[:, None, :, None] == documents[:, None, None, :]
    scores = (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5
    scores = scores.masked_fill(~same.tril(), float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2)


def check_attention() -> str:
    """Each path's output and gradients against the reference, packed and not, grouped heads."""
    from linnet.model.attention import PATHS, attention_path

    worst: dict[str, float] = {}
    torch.manual_seed(0)
    for name in PATHS:
        attend, mask_of = attention_path(name)
        dtype = torch.bfloat16
        q = torch.randn(2, 256, 8, 64, device="cuda", dtype=dtype, requires_grad=True)
        k, v = (torch.randn(2, 256, 2, 64, device="cuda", dtype=dtype, requires_grad=True) for _ in "kv")
        documents = (torch.rand(2, 256, device="cuda") < 0.05).long().cumsum(1)
        for packed in (True, False):
            where = documents if packed else torch.zeros_like(documents)
            y = attend(q, k, v, mask_of(documents) if packed else None, 0.0)
            wanted = reference_attention(q, k, v, where)
            weight = torch.randn_like(wanted)
            got = torch.autograd.grad((y.double() * weight).sum(), (q, k, v))
            right = torch.autograd.grad((wanted * weight).sum(), (q, k, v))
            errors = [(y.double() - wanted).abs().max()]
            errors += [
                (a.double() - b.double()).abs().max() / b.double().abs().max()
                for a, b in zip(got, right, strict=True)
            ]
            worst[f"{name}{' packed' if packed else ''}"] = max(float(e) for e in errors)
    bad = {name: error for name, error in worst.items() if not error < 0.04}
    assert not bad, f"beyond bf16's rounding: {bad}"
    return ", ".join(f"{name} {error:.4f}" for name, error in worst.items())


def check_loss() -> str:
    """The chunked loss and its gradients against torch's, FP32 and BF16."""
    import torch.nn.functional as F

    from linnet.objectives.linear_cross_entropy import linear_cross_entropy

    errors = []
    for dtype, bound in ((torch.float32, 1e-4), (torch.bfloat16, 0.03)):
        torch.manual_seed(0)
        hidden = torch.randn(5000, 256, device="cuda").to(dtype).requires_grad_()
        weight = (torch.randn(50257, 256, device="cuda") * 0.05).requires_grad_()
        targets = torch.randint(0, 50257, (5000,), device="cuda")
        targets[::7] = -100
        loss = linear_cross_entropy(hidden, weight, targets)
        got = torch.autograd.grad(loss / 4000, (hidden, weight))
        wide = hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
        plain = F.cross_entropy(F.linear(*wide), targets, reduction="sum", ignore_index=-100)
        right = torch.autograd.grad(plain / 4000, wide)
        found = [abs(float(loss) - float(plain)) / float(plain)]
        found += [float((a.double() - b).norm() / b.norm()) for a, b in zip(got, right, strict=True)]
        assert max(found) < bound, f"{dtype}: {found}"
        errors.append(f"{str(dtype)[6:]} {max(found):.1e}")
    return ", ".join(errors)


def _engine(precision: str, **hardware: Any) -> tuple[Any, Any]:
    from linnet.data.batches import Batch
    from linnet.hardware import HardwareSettings, choose, detect
    from linnet.model import Transformer, initialize
    from linnet.train import TrainSettings
    from linnet.train.engines import LocalEngine

    settings = TrainSettings(
        duration="100 steps", train_batch_size=16, micro_batch_size=8, learning_rate=3e-3
    )
    model = Transformer(tiny())
    initialize(model, 0)
    choices = choose(HardwareSettings(precision=precision, **hardware), detect())
    torch.manual_seed(1)
    tokens = torch.randint(0, 512, (16, 257))
    batch = Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    return LocalEngine(model, settings, choices, 256, seed=0), batch


def _losses(engine: Any, batch: Any, steps: int) -> list[float]:
    from linnet.objectives import NextToken

    found = []
    for step in range(steps):
        terms = engine.accumulate(NextToken(), batch, step, lambda: False)
        engine.update(terms, 3e-3)
        found.append(terms.mean())
    return found


def check_precision() -> str:
    """FP32, BF16 and FP16 steps learn one batch by heart at nearly the same pace."""
    ends = {}
    for precision in ("fp32", "bf16", "fp16"):
        losses = _losses(*_engine(precision, compile=False), 40)
        assert losses[-1] < losses[0] - 1, f"{precision}: {losses[0]:.3f} → {losses[-1]:.3f}"
        ends[precision] = losses[-1]
    assert max(ends.values()) - min(ends.values()) < 0.25, ends
    return ", ".join(f"{name} {end:.3f}" for name, end in ends.items())


def check_overflow() -> str:
    """FP16 with a planted overflow: the step is skipped, the scale halves, training goes on."""
    engine, batch = _engine("fp16", compile=False)
    _losses(engine, batch, 3)
    before = {name: p.detach().clone() for name, p in engine.model.named_parameters()}
    scale = engine.scale.value
    engine.scale.value = 1e30
    _losses(engine, batch, 1)
    assert all(torch.equal(p, before[name]) for name, p in engine.model.named_parameters()), "weights changed"
    assert engine.scale.value == 5e29
    engine.scale.value = scale
    losses = _losses(engine, batch, 20)
    assert losses[-1] < losses[0]
    return "the step changed nothing; the loss fell after it"


def check_compile() -> str:
    """Compiled blocks train as eager ones do."""
    eager = _losses(*_engine("bf16", compile=False), 10)
    compiled = _losses(*_engine("bf16", compile=True), 10)
    difference = max(abs(a - b) for a, b in zip(eager, compiled, strict=True))
    assert difference < 0.05, f"{difference:.4f}"
    return f"largest difference in loss over 10 steps {difference:.4f}"


def check_resume() -> str:
    """A run killed by SIGKILL with `deterministic: true` ends in the losses of one never killed."""
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        command = [
            sys.executable, "-m", "linnet.cli.main", "train", "quickstart", "hardware.deterministic=true",
            "hardware.compile=false", "stages=[pretrain]", "pretrain.duration=60 steps", "pretrain.warmup_steps=5",
            "pretrain.logging_steps=1", "pretrain.save_steps=10", "pretrain.eval_steps=30",
            "model.dropout=0.1", "pretrain.data.sources=[{builtin: world, documents: 2000}]",
        ]  # fmt: skip
        environment = {**os.environ, "LINNET_CACHE": f"{folder}/cache", "PYTHONPATH": str(ROOT / "src")}
        subprocess.run([*command, "--run", str(whole)], env=environment, check=True, capture_output=True)
        for moment in (20, 40):
            process = subprocess.Popen(
                [*command, "--run", str(killed)],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            while process.poll() is None and not list(killed.glob(f"stages/*/checkpoints/step-{moment:08d}")):
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            process.wait()
        subprocess.run([*command, "--run", str(killed)], env=environment, check=True, capture_output=True)
        losses = [_logged(path) for path in (whole, killed)]
        assert losses[0] == losses[1], "the losses differ"
        return f"{len(losses[0])} losses equal to the last bit, killed twice"


def check_token_logprobs() -> str:
    """Log-probabilities of tokens and their gradients against torch's, FP32 and BF16."""
    import torch.nn.functional as F

    from linnet.objectives.token_logprobs import token_logprobs

    errors = []
    for dtype, bound in ((torch.float32, 1e-4), (torch.bfloat16, 0.03)):
        torch.manual_seed(0)
        hidden = torch.randn(3000, 256, device="cuda").to(dtype).requires_grad_()
        weight = (torch.randn(50257, 256, device="cuda") * 0.05).requires_grad_()
        targets = torch.randint(0, 50257, (3000,), device="cuda")
        targets[::3] = -100
        above = torch.randn(3000, device="cuda")
        found = token_logprobs(hidden, weight, targets, temperature=0.8)
        got = torch.autograd.grad((found * above).sum(), (hidden, weight))
        wide = hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
        plain = -F.cross_entropy(F.linear(*wide) / 0.8, targets, reduction="none", ignore_index=-100)
        right = torch.autograd.grad((plain * above).sum(), wide)
        differences = [float((found.double() - plain).abs().max())]
        differences += [float((a.double() - b).norm() / b.norm()) for a, b in zip(got, right, strict=True)]
        assert max(differences) < bound, f"{dtype}: {differences}"
        errors.append(f"{str(dtype)[6:]} {max(differences):.1e}")
    return ", ".join(errors)


def check_life() -> str:
    """A life of all stages in BF16, and one with `deterministic: true` that is killed in every stage."""
    sys.path.insert(0, str(ROOT / "tests"))
    import lives

    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with tempfile.TemporaryDirectory() as folder:
        recipe = lives.recipe_file(Path(folder))
        command = [
            sys.executable, "-m", "linnet.cli.main", "train", str(recipe), "hardware.device=cuda",
            "hardware.precision=bf16",
        ]  # fmt: skip

        def run(name: str, *more: str) -> Path:
            where = Path(folder) / name
            done = subprocess.run(
                [*command, *more, "--run", str(where)], env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr[-500:]
            return where

        run("quick")
        exact = "hardware.deterministic=true"
        whole, killed = run("whole", exact), Path(folder) / "killed"
        for stage, step in (("sft", 3), ("dpo", 3), ("rlvr", 3), ("rlvr", 6), ("domain", 2)):
            process = subprocess.Popen(
                [*command, exact, "--run", str(killed)],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            while process.poll() is None and lives.steps_taken(killed).get(stage, 0) < step:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
        run("killed", exact)
        stories = lives.story(whole), lives.story(killed)
        differing = [stage for stage in stories[0] if stories[0][stage] != stories[1].get(stage)]
        assert not differing, f"these stages differ after kills: {differing}"
        return f"{len(stories[0])} stages lived; killed five times, all numbers equal to the last bit"


def _logged(run: Path) -> list[tuple[int, float]]:
    from linnet.observe import StepDone, effective, read_events

    events = effective(list(read_events(run / "events.jsonl")))
    return [(e.step, e.metrics["train/loss"]) for e in events if isinstance(e, StepDone)]


CHECKS: dict[str, Callable[[], str]] = {
    "attention paths against a reference": check_attention,
    "chunked loss against torch": check_loss,
    "fp32, bf16 and fp16 steps": check_precision,
    "fp16 with a planted overflow": check_overflow,
    "compiled blocks": check_compile,
    "exact resume, deterministic": check_resume,
    "log-probabilities of tokens": check_token_logprobs,
    "a whole life, and exact resume in every stage": check_life,
}


def run_json(command: list[str], seconds: float) -> dict[str, Any]:
    """A measurement in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=max(5, seconds), env=environment
        )
    except subprocess.TimeoutExpired:
        return {"error": "out of time"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1][:300]}
    return json.loads(done.stdout[done.stdout.index("{") :])


def measure(only: str, nanogpt: str, until: float) -> dict[str, dict[str, Any]]:
    """Each recipe's step, then the others at its shape, in turn."""
    found: dict[str, dict[str, Any]] = {}
    for name, batch in RECIPES.items():
        ours = [
            sys.executable, "-m", "linnet.cli.main", "bench", name, "--json", "--steps", "10", "--warmup", "3",
            f"pretrain.train_batch_size={batch}", "model.dropout=0.0", "model.attention_dropout=0.0",
            "hardware.precision=bf16", "pretrain.gradient_checkpointing=false", "pretrain.data.num_workers=2",
        ]  # fmt: skip
        commands = {f"{name}: linnet": ours}
        if only != "recipes":
            micro = batch // 4
            peer = [
                name,
                "--batch",
                str(batch),
                "--micro",
                str(micro),
                "--precision",
                "bf16",
                "--compile",
                "--steps",
                "10",
            ]
            commands[f"{name}: transformers"] = [
                sys.executable,
                str(HERE / "peers.py"),
                "transformers",
                *peer,
            ]
            if nanogpt and name in ("tinystories-30m", "gpt2-1b"):
                commands[f"{name}: nanoGPT"] = [
                    sys.executable, str(HERE / "peers.py"), "nanogpt", *peer, "--checkout", nanogpt,
                ]  # fmt: skip
        for label, command in commands.items():
            left = until - time.monotonic()
            found[label] = run_json(command, left) if left > 20 else {"error": "out of time"}
            shown = found[label].get("error") or f"{found[label]['tokens_per_second']:,.0f} tokens/s"
            print(f"{label}: {shown}", flush=True)
    return found


def report(checks: dict[str, str], measured: dict[str, dict[str, Any]]) -> str:
    """Everything as a page."""
    lines = ["# Checks and measurements on a GPU", ""]
    lines.append(
        f"{time.strftime('%Y-%m-%d')}, {torch.cuda.get_device_name()}, torch {torch.__version__}, "
        f"CUDA {torch.version.cuda}, Python {platform.python_version()}"
    )
    lines += [
        "",
        "| check | outcome |",
        "| --- | --- |",
        *(f"| {name} | {text} |" for name, text in checks.items()),
    ]
    lines += [
        "",
        "| step | tokens/s | MFU (datasheet) | of own matrix rate | peak memory |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in measured.items():
        if "error" in row:
            lines.append(f"| {name} | {row['error']} | | | |")
            continue
        mfu = f"{100 * row['mfu']:.1f}%" if row.get("mfu") else ""
        share = f"{100 * row['share_of_matrix_rate']:.1f}%" if row.get("share_of_matrix_rate") else ""
        lines.append(
            f"| {name} | {row['tokens_per_second']:,.0f} | {mfu} | {share} | {row['peak_memory_bytes'] / 1e9:.1f} GB |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Check, measure, write; 1 when a check failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("all", "checks", "recipes", "peers"), default="all")
    parser.add_argument("--nanogpt", default="", help="a checkout of nanoGPT")
    parser.add_argument(
        "--seconds", type=float, default=3600, help="stop starting measurements after so long"
    )
    parser.add_argument("--out", default=str(HERE / "results"))
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here; skipped:")
        for name in CHECKS:
            print(f"  {name}")
        for name in RECIPES:
            print(f"  training step of {name}, measured")
        return 0
    until = time.monotonic() + args.seconds
    checks: dict[str, str] = {}
    for name, check in CHECKS.items() if args.only in ("all", "checks") else ():
        try:
            checks[name] = f"passed: {check()}"
        except Exception as error:
            traceback.print_exc()
            checks[name] = f"FAILED: {' '.join(str(error).split())[:300] or type(error).__name__}"
        print(f"{name}: {checks[name]}", flush=True)
    measured = measure(args.only, args.nanogpt, until) if args.only != "checks" else {}
    text = report(checks, measured)
    print(text)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    stem = "gpu-" + torch.cuda.get_device_name().lower().replace(" ", "-")
    (out / f"{stem}.md").write_text(text, encoding="utf-8")
    (out / f"{stem}.json").write_text(
        json.dumps({"checks": checks, "measured": measured}, indent=1), encoding="utf-8"
    )
    return int(any(text.startswith("FAILED") for text in checks.values()))


if __name__ == "__main__":
    sys.exit(main())
