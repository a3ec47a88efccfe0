"""How fast text becomes token shards, beside nanoGPT's way, datatrove's and litdata's, per core.

nanoGPT (data/openwebtext/prepare.py) maps tiktoken's `encode_ordinary` over a Hugging Face
dataset with `num_proc` processes and then copies the rows into a memmap. datatrove runs its
JsonlReader and DocumentTokenizer, one task a file, as its LocalPipelineExecutor does; litdata
runs `optimize` with a TokensLoader over tiktoken. All begin with the same documents, as JSON
lines in as many files as there are processes, and end with tokens in files; the runs are
interleaved, and the best of each counts. The time is that of the whole process less its imports.

    python benchmarks/tokenise.py stories.txt --tokenizer gpt2 --processes 2 --rounds 3

Several texts make one corpus. Peers that are not installed are left out and said to be:
`pip install datasets datatrove litdata`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import tiktoken
from tokenizers import Tokenizer as LibraryTokenizer

from linnet.data.settings import DataSettings, source_of
from linnet.data.sources.documents import texts
from linnet.text import Tokenizer, load_tokenizer
from linnet.text.bytelevel import recognise


def ours(lines: list[Path], tokenizer_name: str, processes: int, out: Path) -> int:
    """Tokens written by Linnet's build."""
    from linnet.data.opening import open_corpus  # not above: processes that are spawned import this file

    settings = DataSettings.model_validate(
        {
            "sources": [str(path) for path in lines],
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


def nanogpt_way(lines: list[Path], tokenizer_name: str, processes: int, out: Path) -> int:
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
    rows = datasets.load_dataset(
        "json", data_files=[str(path) for path in lines], split="train", cache_dir=str(out)
    )
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


def datatrove_way(lines: list[Path], tokenizer_name: str, processes: int, out: Path) -> int:
    """Tokens written by datatrove's tokenising pipeline."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    definition = out / "tokenizer.json"
    tokenizer = load_tokenizer(tokenizer_name)
    definition.write_text(tokenizer.to_json())
    eos = LibraryTokenizer.from_str(tokenizer.to_json()).id_to_token(tokenizer.eos_id)
    began = time.perf_counter()
    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(str(lines[0].parent), glob_pattern="*.jsonl"),
            DocumentTokenizer(str(out / "tokens"), tokenizer_name_or_path=str(definition), eos_token=eos,
                              shuffle_documents=False),
        ],
        tasks=len(lines), workers=processes, logging_dir=str(out / "logs"),
    ).run()  # fmt: skip
    print(time.perf_counter() - began)
    return sum(path.stat().st_size for path in (out / "tokens").glob("*.ds")) // 2


def litdata_way(lines: list[Path], tokenizer_name: str, processes: int, out: Path) -> int:
    """Tokens written by litdata's optimize, as its tutorial for language models does."""
    import functools

    import litdata

    began = time.perf_counter()
    litdata.optimize(
        fn=functools.partial(_litdata_rows, tokenizer_name=tokenizer_name),
        inputs=[str(path) for path in lines], output_dir=str(out / "chunks"), num_workers=processes,
        chunk_bytes="64MB", item_loader=litdata.TokensLoader(),
    )  # fmt: skip
    print(time.perf_counter() - began)
    index = json.loads((out / "chunks" / "index.json").read_text())
    return sum(chunk["dim"] for chunk in index["chunks"])


_encodings: dict[str, tuple[tiktoken.Encoding, int]] = {}


def _litdata_rows(path: str, tokenizer_name: str) -> Iterator[object]:
    import torch

    if tokenizer_name not in _encodings:
        tokenizer = load_tokenizer(tokenizer_name)
        _encodings[tokenizer_name] = _tiktoken(tokenizer), tokenizer.eos_id
    encoding, eot = _encodings[tokenizer_name]
    with open(path, encoding="utf-8") as rows:
        for row in rows:
            yield torch.tensor([*encoding.encode_ordinary(json.loads(row)["text"]), eot], dtype=torch.int32)


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
    parser.add_argument("text", nargs="+", help="text files (their documents parted by <|endoftext|>)")
    parser.add_argument("--tokenizer", default="gpt2")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        lines = sorted(Path(given.text[0]).glob("*.jsonl"))
        print(WAYS[given.one](lines, given.tokenizer, given.processes, Path(given.out)))
        return

    ways = [way for way in WAYS if _installed(way)]
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "documents"
        lines.mkdir()
        size = 0
        with ExitStack() as stack:
            files = [stack.enter_context((lines / f"{n}.jsonl").open("w")) for n in range(given.processes)]
            documents = (text for name in given.text for text in texts(source_of(name)))
            for number, text in enumerate(documents):
                size += len(text.encode())
                files[number % len(files)].write(json.dumps({"text": text}) + "\n")
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
    for way in ways[1:]:
        print(f"linnet is {best[way][0] / best['linnet'][0]:.2f} times as fast as {way}")


WAYS = {"linnet": ours, "nanogpt": nanogpt_way, "datatrove": datatrove_way, "litdata": litdata_way}


def _installed(way: str) -> bool:
    library = {"nanogpt": "datasets"}.get(way, way)
    there = importlib.util.find_spec(library) is not None
    if not there:
        print(f"{way} is left out: {library} is not installed", file=sys.stderr)
    return there


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
