"""A recipe's whole life with several seeds: what each stage came to on held-out items, and how long it took.

Where it learns the built-in world's conversations, the model of every stage after instruction tuning is talked with
as well: four held-out questions after each other, each asked after the model's own answers to those before it. Every
question stands once at every turn, so the turns can be compared.

    python benchmarks/life.py [quickstart] [--seeds 1337 1338 1339] [--runs DIR] [--out FILE.md] [KEY=VALUE ...]

A run that is there already is not run again. The table shows the mean over seeds and, in brackets, the least and
the most.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "src"))


def live(recipe: str, seed: int, folder: Path, overrides: list[str]) -> float:
    """Run the recipe with a seed; seconds, as its events tell them where it is there already."""
    if not (folder / "scoreboard.json").exists():
        command = [sys.executable, "-m", "linnet.cli.main", "train", recipe, f"seed={seed}", *overrides]
        subprocess.run([*command, "--run", str(folder)], check=True)
    times = [json.loads(line)["time"] for line in (folder / "events.jsonl").read_text().splitlines()]
    return max(times) - min(times)


TURNS, TALKS = 4, 64


def talk(model_folder: Path, chat: Any) -> list[dict[str, float]]:
    """The share of right answers at each turn of held-out conversations."""
    from linnet.data.world import talks
    from linnet.data.world.draw import Draw
    from linnet.evaluate.answers import matches
    from linnet.evaluate.suites import answer_all
    from linnet.infer import load_generator

    model = load_generator(model_folder, device="cpu", dtype=torch.float32)
    drawn = [talks.exchanges("test", Draw("talk", number), TURNS) for number in range(TALKS)]
    asked = [turns[first:] + turns[:first] for turns in drawn for first in range(TURNS)]
    said: list[list[dict[str, Any]]] = [[] for _ in asked]
    shares = []
    for turn in range(TURNS):
        for before, questions in zip(said, asked, strict=True):
            before.append({"role": "user", "content": questions[turn]["user"]})
        answers = answer_all(model, [tuple(before) for before in said], chat, 40)
        right = []
        for before, questions, answer in zip(said, asked, answers, strict=True):
            before.append({"role": "assistant", "content": answer or ""})
            exchange = questions[turn]
            if exchange["answer"] is not None:
                right.append(matches(answer or "", exchange["assistant"], exchange["answer"]))
        shares.append({"value": sum(right) / len(right), "n": len(right)})
    return shares


def talked(folder: Path) -> dict[str, dict[str, Any]]:
    """The right answers at each turn, by stage, in the form of a scoreboard's stages; kept in the run's folder."""
    from linnet.infer import find_model
    from linnet.recipe import load_recipe

    kept = folder / "turns.json"
    if kept.exists():
        return json.loads(kept.read_text())
    recipe = load_recipe(str(folder / "recipe.yaml"))
    if recipe.sft is None or all(source.builtin is None for source in recipe.sft.data.sources):
        return {}
    found = {}
    for stage in recipe.life[recipe.life.index("sft") :]:
        (place,) = (folder / "stages").glob(f"*-{stage}")
        last = sorted((place / "checkpoints").glob("step-*"))[-1]
        shares = talk(find_model(last), recipe.sft.chat)
        found[stage] = {f"turn {number}/exact_match": share for number, share in enumerate(shares, 1)}
    kept.write_text(json.dumps(found))
    return found


def cell(values: list[float], percent: bool) -> str:
    """Mean, least and most."""
    shown = [
        f"{100 * v:.1f}" if percent else f"{v:.2f}"
        for v in (statistics.mean(values), min(values), max(values))
    ]
    unit = "%" if percent else ""
    return f"{shown[0]}{unit} ({shown[1]} to {shown[2]})" if len(values) > 1 else f"{shown[0]}{unit}"


def page(recipe: str, boards: list[dict[str, Any]], seconds: list[float], seeds: list[int]) -> str:
    """The results as Markdown."""
    from linnet import __version__
    from linnet.hardware import describe, detect

    stages = list(boards[0]["stages"])
    suites = list(dict.fromkeys(suite for stage in stages for suite in boards[0]["stages"][stage]))
    shown = {(s, x): [b["stages"][s].get(x, {}).get("value") for b in boards] for s in stages for x in suites}
    lines = [
        f"# A whole life: {recipe}", "",
        f"{date.today()}, {describe(detect())}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"Linnet {__version__}; seeds {', '.join(map(str, seeds))}; "
        f"{' and '.join(f'{s / 60:.1f}' for s in seconds)} minutes from the first event to the last.",
        "", "Mean over seeds on items that no stage learned from (least to most). "
        f"n is {', '.join(sorted({str(s['n']) for b in boards for x in b['stages'].values() for s in x.values()}))}.",
        "", f"| | {' | '.join(stages)} |", f"| --- |{' --- |' * len(stages)}",
    ]  # fmt: skip
    for suite in suites:
        cells = [
            ""
            if None in shown[stage, suite]
            else cell(shown[stage, suite], not suite.startswith("perplexity"))
            for stage in stages
        ]
        lines.append(f"| {suite} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337, 1338, 1339])
    parser.add_argument("--runs", type=Path, default=Path("runs/lives"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_intermixed_args()
    names = [word for word in given.words if "=" not in word]
    recipe, overrides = names[0] if names else "quickstart", [word for word in given.words if "=" in word]
    boards, seconds = [], []
    for seed in given.seeds:
        folder = given.runs / f"{Path(recipe).stem}-{seed}"
        began = time.perf_counter()
        seconds.append(live(recipe, seed, folder, overrides))
        board = json.loads((folder / "scoreboard.json").read_text())
        for stage, suites in talked(folder).items():
            board["stages"][stage] |= suites
        boards.append(board)
        print(f"seed {seed}: {seconds[-1]:.0f} s ({time.perf_counter() - began:.0f} s now)", flush=True)
    text = page(recipe, boards, seconds, given.seeds)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
