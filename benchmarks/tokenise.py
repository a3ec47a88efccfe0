"""How fast text becomes token shards, beside nanoGPT's way, per core.

nanoGPT (data/openwebtext/prepare.py) maps tiktoken's `encode_ordinary` over a Hugging Face
dataset with `num_proc` processes and then copies the rows into a memmap. Both sides begin with
the same documents in a file of JSON lines and end with uint16 tokens in files; the runs are
interleaved, and the best of each counts. The time is that of the whole process less its imports.

    python benchmarks/tokenise.py stories.txt --tokenizer gpt2 --processes 1 --rounds 3

Needs `datasets` and `tiktoken`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tiktoken
from tokenizers import Tokenizer as LibraryTokenizer

from linnet.data.opening import open_corpus
from linnet.data.settings import DataSettings, source_of
from linnet.data.sources.documents import texts
from linnet.text import Tokenizer, load_tokenizer
from linnet.text.bytelevel import recognise


def ours(lines: Path, tokenizer_name: str, processes: int, out: Path) -> int:
    """Tokens written by Linnet's build."""
    settings = DataSettings.model_validate(
        {
            "sources": str(lines),
            "sequence_length": 128,
            "cache_dir": str(out),
            "preprocessing_processes": processes,
            "validation_fraction": 0.0005,
        }
    )
    tokenizer = load_tokenizer(tokenizer_name)
    began = time.perf_counter()
    corpus = open_corpus(settings, tokenizer)
    print(time.perf_counter() - began)
    (component,), (held_out,) = corpus.components, corpus.validation.values()
    assert component.split is not None
    return component.split.tokens + held_out.split.tokens


def nanogpt_way(lines: Path, tokenizer_name: str, processes: int, out: Path) -> int:
    """Tokens written as nanoGPT writes them."""
    import datasets
    import numpy as np

    datasets.disable_progress_bars()
    tokenizer = load_tokenizer(tokenizer_name)
    encoding, eot = _tiktoken(tokenizer), tokenizer.eos_id

    def process(example: dict) -> dict:
        ids = encoding.encode_ordinary(example["text"])
        ids.append(eot)
        return {"ids": ids, "len": len(ids)}

    began = time.perf_counter()
    rows = datasets.load_dataset("json", data_files=str(lines), split="train", cache_dir=str(out))
    split = rows.train_test_split(test_size=0.0005, seed=2357, shuffle=True)
    total = 0
    workers = {"num_proc": processes} if processes > 1 else {}
    tokenized = split.map(process, remove_columns=["text"], **workers)
    for name, part in tokenized.items():
        length = int(np.sum(part["len"], dtype=np.uint64))
        arr = np.memmap(out / f"{name}.bin", dtype=np.uint16, mode="w+", shape=(length,))
        batches = max(1, min(1024, len(part) // 1000))  # his 1024 are for a large corpus; not charged here
        idx = 0
        for batch_idx in range(batches):
            batch = part.shard(num_shards=batches, index=batch_idx, contiguous=True).with_format("numpy")
            arr_batch = np.concatenate(batch["ids"])
            arr[idx : idx + len(arr_batch)] = arr_batch
            idx += len(arr_batch)
        arr.flush()
        total += length
    print(time.perf_counter() - began)
    return total


def _tiktoken(tokenizer: Tokenizer) -> tiktoken.Encoding:
    """tiktoken's own encoding of a vocabulary, without its download."""
    text = tokenizer.to_json()
    scheme = recognise(LibraryTokenizer.from_str(text), json.loads(text))
    if scheme is None:
        raise SystemExit(f"tiktoken cannot encode {tokenizer.name}; name a byte-level one, such as gpt2")
    return tiktoken.Encoding("peer", pat_str=scheme.pattern, mergeable_ranks=scheme.ranks, special_tokens={})


def main() -> None:
    """Print a table: seconds, MB/s and tokens/s a core, and the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", help="a text file (its documents parted by <|endoftext|>)")
    parser.add_argument("--tokenizer", default="gpt2")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=("linnet", "nanogpt"), help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    given = parser.parse_args()
    ways = {"linnet": ours, "nanogpt": nanogpt_way}
    if given.one:
        print(ways[given.one](Path(given.text), given.tokenizer, given.processes, Path(given.out)))
        return

    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "documents.jsonl"
        size = 0
        with lines.open("w") as file:
            for text in texts(source_of(given.text)):
                size += len(text.encode())
                file.write(json.dumps({"text": text}) + "\n")
        best: dict[str, tuple[float, int]] = {}
        for number in range(given.rounds):
            for way in ways:
                out = Path(folder) / f"{way}-{number}"
                out.mkdir()
                seconds, tokens = _run(lines, way, out, given)
                best[way] = min(best.get(way, (seconds, tokens)), (seconds, tokens))
                print(f"  round {number + 1}, {way}: {seconds:.2f} s", file=sys.stderr)
    cores = min(given.processes, os.cpu_count() or 1)
    print(f"{size / 1e6:.1f} MB, {given.tokenizer}, {given.processes} process(es), best of {given.rounds}")
    print(f"{'':<22}{'seconds':>9}{'tokens':>12}{'MB/s a core':>13}{'tokens/s a core':>17}")
    for way, (seconds, tokens) in best.items():
        rate, speed = size / 1e6 / seconds / cores, tokens / seconds / cores
        print(f"{way:<22}{seconds:>9.2f}{tokens:>12,}{rate:>13.2f}{speed:>17,.0f}")
    print(f"linnet is {best['nanogpt'][0] / best['linnet'][0]:.2f} times as fast")


def _run(lines: Path, way: str, out: Path, given: argparse.Namespace) -> tuple[float, int]:
    command = [sys.executable, __file__, str(lines), "--one", way, "--out", str(out)]
    command += ["--tokenizer", given.tokenizer, "--processes", str(given.processes)]
    environment = {
        **os.environ,
        "HF_HOME": str(out),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{way} failed:\n{done.stderr}")
    seconds, tokens = done.stdout.split()[-2:]
    return float(seconds), int(tokens)


if __name__ == "__main__":
    main()
