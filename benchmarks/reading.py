"""How fast batches are read from a warm cache, and what memory that takes over many tokens.

    python benchmarks/reading.py TEXT [TEXT …] --tokenizer gpt2 --tokens 10000000

Each text is a domain of a mixture, once built whole and once streamed; every batch is 64 sequences
with document masks. A process for each, so that memory is its own. The speed is the best of three
passes; memory is the resident size after a tenth of the tokens and at the end of all of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = 64
ROUNDS = 3


def resident() -> int:
    """Bytes of memory that belong to this process alone, mapped files apart."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


def measure(texts: list[str], tokenizer: str, length: int, streaming: bool, tokens: int, cache: str) -> dict:
    """Speed and memory of one way to read."""
    import torch

    from linnet.data.opening import open_corpus
    from linnet.data.settings import DataSettings
    from linnet.text import load_tokenizer

    torch.set_num_threads(1)
    weight = 100 / len(texts)
    domains = {
        f"domain-{number}": {"weight": weight, "sources": [{"path": path, "streaming": streaming}]}
        for number, path in enumerate(texts)
    }
    settings = DataSettings.model_validate(
        {"domains": domains, "sequence_length": length, "cache_dir": cache, "shard_tokens": 1 << 18}
    )
    corpus = open_corpus(settings, load_tokenizer(tokenizer))
    steps = max(10, tokens // (ROWS * length))
    batches = corpus.batches(ROWS, 0, steps)
    for _ in batches.stream(0, steps):  # makes what is not there yet, and warms the files
        pass
    best, sizes = 0.0, []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for step, _ in enumerate(batches.stream(0, steps)):
            if step == steps // 10:
                sizes.append(resident())
        best = max(best, steps * ROWS * length / (time.perf_counter() - began))
    sizes.append(resident())
    corpus.close()
    return {
        "length": length, "streaming": streaming, "tokens": steps * ROWS * length, "tokens_per_second": best,
        "memory_begin": sizes[0], "memory_end": sizes[-1],
    }  # fmt: skip


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", nargs="+")
    parser.add_argument("--tokenizer", default="gpt2")
    parser.add_argument("--tokens", type=int, default=10_000_000, help="read in each pass")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        length, streaming, cache = json.loads(given.one)
        print(json.dumps(measure(given.text, given.tokenizer, length, streaming, given.tokens, cache)))
        return
    print(f"{'way':<10}{'length':>8}{'tokens/s':>14}{'memory at 10%':>16}{'at the end':>13}{'change':>9}")
    with tempfile.TemporaryDirectory() as cache:
        for streaming in (False, True):
            for length in (2048, 256):
                one = json.dumps([length, streaming, cache])
                options = ["--tokenizer", given.tokenizer, "--tokens", str(given.tokens), "--one", one]
                command = [sys.executable, __file__, *given.text, *options]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(done.stderr)
                found = json.loads(done.stdout.splitlines()[-1])
                way = "streamed" if streaming else "whole"
                begin, end = found["memory_begin"], found["memory_end"]
                print(
                    f"{way:<10}{length:>8}{found['tokens_per_second']:>14,.0f}{begin / 1e6:>13.1f} MB"
                    f"{end / 1e6:>10.1f} MB{100 * (end - begin) / begin:>8.2f}%"
                )


if __name__ == "__main__":
    main()
