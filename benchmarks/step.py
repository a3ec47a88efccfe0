"""A training step of Linnet beside other programs' at the same shape, interleaved, as a table.

    python benchmarks/step.py --nanogpt ../nanoGPT --litgpt ../litgpt-env/bin/python

Every measurement is a process of its own; the programs take turns, round after round, and
the best of each is shown with the ratio to it in the same round. nanoGPT runs from a
checkout, litgpt from an environment of its own (it wants other versions of the hub client);
what is not given is left out and said so. Results go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PEERS = HERE / "peers.py"


def commands(args: argparse.Namespace) -> dict[str, list[str]]:
    """What is compared, by name."""
    python, shape = sys.executable, [args.recipe, "--batch", str(args.batch), "--steps", str(args.steps)]
    chosen = {
        "linnet bf16 compiled": [
            python, "-m", "linnet.cli.main", "bench", args.recipe, "--json", "--steps", str(args.steps),
            f"pretrain.train_batch_size={args.batch}", "model.dropout=0.0", "model.attention_dropout=0.0",
            "hardware.precision=bf16", "hardware.compile=true", "pretrain.data.document_mask=false",
        ],
        "transformers bf16 compiled": [python, str(PEERS), "transformers", *shape, "--precision", "bf16", "--compile"],
    }  # fmt: skip
    from linnet.recipe import load_recipe

    if args.nanogpt and load_recipe(args.recipe).model.architecture == "gpt2":  # the one shape it has
        checkout = ["--checkout", args.nanogpt]
        chosen["nanoGPT fp32 (its README on a CPU)"] = [python, str(PEERS), "nanogpt", *shape, *checkout]
        chosen["nanoGPT bf16 compiled"] = [
            python, str(PEERS), "nanogpt", *shape, *checkout, "--precision", "bf16", "--compile",
        ]  # fmt: skip
    if args.litgpt:
        printed = subprocess.run(
            [python, str(PEERS), "transformers", args.recipe, "--print-shape"],
            capture_output=True,
            text=True,
            check=True,
        )
        chosen["litgpt bf16 compiled"] = [
            args.litgpt, str(PEERS), "litgpt", *shape, "--precision", "bf16", "--compile", "--shape", printed.stdout,
        ]  # fmt: skip
    return chosen


def run(command: list[str]) -> dict[str, Any]:
    """One measurement; an error is kept as such."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    return json.loads(done.stdout[done.stdout.index("{") :])


def table(rounds: dict[str, list[dict[str, Any]]]) -> str:
    """Best speed, ratio of Linnet to each in the same round (median and spread), memory."""
    ours = rounds["linnet bf16 compiled"]
    lines = [
        "| program | tokens/s, best | Linnet is faster by, median (spread) | peak memory |",
        "| --- | --- | --- | --- |",
    ]
    for name, found in rounds.items():
        good = [
            (mine, theirs) for mine, theirs in zip(ours, found, strict=True) if "error" not in mine | theirs
        ]
        if not good:
            lines.append(f"| {name} | failed: {found[-1].get('error', '')} | | |")
            continue
        best = max(theirs["tokens_per_second"] for _, theirs in good)
        ratios = [mine["tokens_per_second"] / theirs["tokens_per_second"] for mine, theirs in good]
        memory = max(theirs["peak_memory_bytes"] for _, theirs in good)
        share = max(mine["peak_memory_bytes"] for mine, _ in good) / memory
        lines.append(
            f"| {name} | {best:,.0f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | "
            f"{memory / 1e9:.2f} GB (Linnet: {100 * share:.0f}% of it) |"
        )
    good = [mine for mine in ours if "error" not in mine]
    if good:
        best = max(good, key=lambda mine: mine["share_of_matrix_rate"])
        lines.append("")
        lines.append(
            f"Linnet's matrix products ran at {best['model_flops_per_second'] / 1e9:,.0f} GFLOP/s, "
            f"{100 * best['share_of_matrix_rate']:.0f}% of the machine's own rate measured in that process "
            f"({best['matrix_rate'] / 1e9:,.0f} GFLOP/s)."
        )
    return "\n".join(lines)


def main() -> None:
    """Measure round after round; write the table and the figures it was made from."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="tinystories-30m")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--nanogpt", default="", help="a checkout of nanoGPT")
    parser.add_argument("--litgpt", default="", help="the Python of an environment with litgpt")
    parser.add_argument("--out", default=str(HERE / "results"))
    args = parser.parse_args()
    chosen = commands(args)
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    for number in range(args.rounds):
        for name, command in chosen.items():
            rounds[name].append(run(command))
            shown = rounds[name][-1].get("error") or f"{rounds[name][-1]['tokens_per_second']:,.0f} tokens/s"
            print(f"round {number + 1} of {args.rounds}: {name}: {shown}", file=sys.stderr, flush=True)
    left_out = [name for name in ("nanoGPT", "litgpt") if not any(key.startswith(name) for key in chosen)]
    import torch

    from linnet.hardware import describe, detect

    heading = (
        f"# A training step of `{args.recipe}`, {args.batch} sequences\n\n{time.strftime('%Y-%m-%d')}, "
        f"{describe(detect())}, Python {platform.python_version()}, torch {torch.__version__}; "
        f"{args.rounds} rounds, each program in turn, best of {args.steps} steps each.\n"
        + (f"Left out (not given, or without this shape): {', '.join(left_out)}.\n" if left_out else "")
    )
    text = f"{heading}\n{table(rounds)}\n"
    print(text)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    stem = f"step-{args.recipe}-{'cuda' if torch.cuda.is_available() else 'cpu'}"
    (out / f"{stem}.md").write_text(text, encoding="utf-8")
    (out / f"{stem}.json").write_text(json.dumps(rounds, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
