"""Datasets by their names, through a hub on loopback. In processes of their own, because the
libraries read their settings when they are imported."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from formats import as_lines, as_parquet, fineweb_card
from hub import COMMIT, Files, Hub

pytestmark = pytest.mark.slow

READ = """
import functools, json, sys
from huggingface_hub import hf_file_system
from linnet.config import LinnetError, RequestError
from linnet.data.settings import Source
from linnet.data.sources import places
from linnet.data.sources.documents import documents, files_of
from linnet.data.sources.retrying import persistent

places.READ_AHEAD = 1 << 16  # and the library asks again at once, so that our own patience is what is seen
hf_file_system.http_backoff = functools.partial(hf_file_system.http_backoff, base_wait_time=0.01, max_wait_time=0.01)
for words in sys.argv[1:]:
    told, found = [], []
    try:
        asked = json.loads(words)
        file, row = asked.pop("at", (0, 0))
        source = Source.model_validate(asked)
        files = files_of(source)
        for document in persistent(lambda f, r: documents(source, files=files, file=f, row=r), file, row,
                                   30, told.append):
            found.append([document.text, document.file, document.row])
        print(json.dumps({"files": [[f.path, f.name, f.size, f.version] for f in files], "told": told,
                          "found": found}))
    except LinnetError as error:
        kind = "RequestError" if isinstance(error, RequestError) else "RunError"
        print(json.dumps({"kind": kind, "line": str(error), "told": told, "found": found}))
"""


def run(program: str, hub: Hub, home: Path, *words: str, **more: str) -> list[dict[str, Any]]:
    """What a program prints that knows no other hub."""
    pytest.importorskip("datasets")
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=hub.environment(home) | {"LINNET_CACHE": os.environ.get("LINNET_CACHE", str(home / "cache"))} | more,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def reading(hub: Hub, home: Path, *sources: dict[str, Any], **more: str) -> list[dict[str, Any]]:
    return run(READ, hub, home, *map(json.dumps, sources), **more)


def texts(answer: dict[str, Any]) -> list[str]:
    assert "found" in answer, answer
    return [text for text, _, _ in answer["found"]]


def fineweb(named: dict[str, list[str]]) -> Files:
    """Laid out as HuggingFaceFW/fineweb-edu: configurations in the README, samples beside dumps."""
    dump = {
        "data/CC-MAIN-2013-20/train-00000-of-00014.parquet": ["dump"],
        "sample/100BT/000_00000.parquet": ["more"],
    }
    files = {name: as_parquet(found, score=[3.5] * len(found)) for name, found in {**dump, **named}.items()}
    return {".gitattributes": b"*.parquet filter=lfs\n", "README.md": fineweb_card("10BT", "100BT"), **files}


def smol(stories: list[str]) -> dict[str, Files]:
    """Small datasets laid out as those of smol-160m."""
    shard = "global-shard_0{}_of_10/local-shard_{}_of_10/shard_0000000{}_processed.jsonl.zst"
    parts = [stories[start : start + 10] for start in range(0, 120, 10)]
    dclm = {shard.format(1 + i // 4, i // 2 % 2, i % 2): zstandard.compress(as_lines(part, url="u", bff=[1]))
            for i, part in enumerate(parts)}  # fmt: skip
    code = {f"file-00000000000{i}.json.gz": gzip.compress(as_lines(part, "content", repo_name="r", copies="1"))
            for i, part in enumerate(parts[:5])}  # fmt: skip
    maths = {f"data/train-0000{i}-of-00003-5a023365406cb9c{i}.parquet": as_parquet(part, url=["u"] * 10)
             for i, part in enumerate(parts[:3])}  # fmt: skip
    card = b"---\nlicense: cc-by-4.0\n---\n# A dataset\n"
    info = b"---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  splits:\n  - name: train\n---\n"
    web = {f"sample/10BT/00{i}_00000.parquet": stories[100 * i : 100 * i + 100] for i in range(3)}
    return {
        "HuggingFaceFW/fineweb-edu": fineweb(web),
        "mlfoundations/dclm-baseline-1.0": {"README.md": card, ".gitattributes": b"x", **dclm},
        "codeparrot/codeparrot-clean": {"README.md": b"# CodeParrot\n", ".gitattributes": b"x", **code},
        "open-web-math/open-web-math": {"README.md": info, **maths},
    }  # fmt: skip


SMOL = [
    {"dataset": "HuggingFaceFW/fineweb-edu", "name": "sample-10BT"},
    {"dataset": "mlfoundations/dclm-baseline-1.0"},
    {"dataset": "codeparrot/codeparrot-clean", "text_field": "content"},
    {"dataset": "open-web-math/open-web-math"},
]


def test_the_datasets_of_smol_160m_are_found_and_read_in_order(stories: list[str], tmp_path: Path) -> None:
    with Hub(smol(stories)) as hub:
        web, dclm, code, maths = reading(hub, tmp_path, *SMOL)
        listings = [line for line in hub.asked if "/tree/" in line]
    assert texts(web) == stories[:300]
    assert texts(dclm) == stories[:120]
    assert texts(code) == stories[:50]
    assert texts(maths) == stories[:30]
    root = f"hf://datasets/HuggingFaceFW/fineweb-edu@{COMMIT}"
    assert [file[:2] for file in web["files"]] == [
        [f"{root}/sample/10BT/00{i}_00000.parquet", f"sample/10BT/00{i}_00000.parquet"] for i in range(3)
    ]
    assert all(size > 100 and len(version) == 40 for _, _, size, version in web["files"])
    assert [name for _, name, _, _ in dclm["files"]] == sorted(name for _, name, _, _ in dclm["files"])
    assert len(dclm["files"]) == 12
    assert len(listings) < 25


def test_reading_goes_on_at_a_place_and_by_an_hf_path(stories: list[str], tmp_path: Path) -> None:
    glob = "hf://datasets/HuggingFaceFW/fineweb-edu/sample/10BT/*.parquet"
    with Hub(smol(stories)) as hub:
        middle, path, folder, one, refs = reading(
            hub, tmp_path, {**SMOL[0], "at": (1, 55)}, {"path": glob}, {"path": glob.rpartition("/")[0]},
            {"path": glob.replace("*", "001_00000"), "at": (0, 98)},
            {"path": "hf://datasets/open-web-math/open-web-math@refs%2Fconvert%2Fparquet/**/*.parquet"},
        )  # fmt: skip
    assert texts(middle) == stories[155:300]
    assert texts(path) == texts(folder) == stories[:300]
    assert path["files"] == folder["files"]
    assert (
        path["files"][0][0]
        == f"hf://datasets/HuggingFaceFW/fineweb-edu@{COMMIT}/sample/10BT/000_00000.parquet"
    )
    assert path["files"][0][1] == "sample/10BT/000_00000.parquet"
    assert texts(one) == stories[198:200]
    assert texts(refs) == stories[:30]


def test_a_hub_that_fails_and_breaks_off_loses_and_repeats_nothing(tmp_path: Path) -> None:
    long = [f"{i} " + os.urandom(600).hex() for i in range(300)]
    names = [f"sample/10BT/00{i}_00000.parquet" for i in range(3)]
    data = fineweb({name: long[100 * i : 100 * i + 100] for i, name in enumerate(names)})
    with Hub({"HuggingFaceFW/fineweb-edu": data}) as hub:
        hub.fail(times=2, status=500, match="sample/10BT/000")
        hub.drop(times=7, after_bytes=9000, match="sample/10BT/001")  # more often than the library asks again
        hub.fail(times=1, status=403, match="sample/10BT/002")
        (refused,) = reading(hub, tmp_path, SMOL[0])
        assert texts(refused) == long[:200]
        assert refused["kind"] == "RunError"
        assert "002_00000.parquet: access was refused" in refused["line"]
        assert COMMIT not in refused["line"]
        assert refused["told"]
        assert all("001_00000.parquet: could not be read" in line for line in refused["told"])
        hub.remove("sample/10BT/002_00000.parquet")
        whole, gone = reading(hub, tmp_path / "again", SMOL[0], {**SMOL[0], "revision": "2" * 40})
    assert texts(whole) == long[:200]
    assert gone["kind"] == "RequestError"


def test_a_wrong_request_is_told_in_one_line(stories: list[str], tmp_path: Path) -> None:
    datasets = {**smol(stories), "o/pictures": {"train/a.png": b"\x89PNG", "train/b.png": b"\x89PNG"},
                "o/script": {"script.py": b"import datasets\n"}}  # fmt: skip
    cases = [
        ({"dataset": "HuggingFaceFW/fineweb-edu", "name": "sample-1T"}, "sample-10BT.*set its 'name' to one"),
        ({"dataset": "HuggingFaceFW/fineweb-edu", "split": "test"}, "no split 'test'; its splits are train"),
        (
            {"dataset": "open-web-math/open-web-math", "text_field": "body"},
            "no column 'body'; its columns are 'text'",
        ),
        (
            {"dataset": "codeparrot/codeparrot-clean"},
            r"000\.json\.gz:1: there is no field 'text'; its fields are",
        ),
        ({"dataset": "o/pictures"}, r"files with \.png are not read; set revision: refs/convert/parquet"),
        ({"dataset": "o/script"}, "set revision: refs/convert/parquet|check its name"),
        ({"dataset": "o/nothing"}, "o/nothing: the dataset cannot be reached"),
        ({"path": "hf://datasets/o/nothing/a.txt"}, "hf://datasets/o/nothing/a.txt: there is no such file"),
        ({"path": "hf://datasets/o/pictures/b.txt"}, "hf://datasets/o/pictures/b.txt: there is no such file"),
    ]
    with Hub(datasets) as hub:
        answers = reading(hub, tmp_path, *(asked for asked, _ in cases))
        (offline,) = reading(hub, tmp_path, SMOL[0], HF_HUB_OFFLINE="1")
    for (asked, message), answer in zip(cases, answers, strict=True):
        assert answer["kind"] == "RequestError", asked
        assert re.search(message, answer["line"]), answer["line"]
        assert "\n" not in answer["line"]
    assert "HuggingFaceFW/fineweb-edu/sample-10BT: the dataset cannot be reached" in offline["line"]


def test_a_split_is_read_and_a_commit_stays_what_it_is(stories: list[str], tmp_path: Path) -> None:
    plain = {"dataset": "someone/stories"}
    with Hub("someone/stories", {"train-00000.jsonl": as_lines(stories[:200]),
                                 "train-00001.jsonl": as_lines(stories[200:300]),
                                 "test-00000.jsonl": as_lines(stories[300:350])}) as hub:  # fmt: skip
        train, test, limited, split = reading(
            hub, tmp_path, plain, {**plain, "split": "test"}, {**plain, "documents": 30},
            {**plain, "split": "nothing"},
        )  # fmt: skip
        (pinned,) = reading(hub, tmp_path, {**plain, "revision": COMMIT})
    assert texts(train) == stories[:300]
    assert texts(test) == stories[300:350]
    assert texts(limited) == stories[:30]
    assert pinned["files"] == train["files"]
    assert split["line"] == "someone/stories: there is no split 'nothing'; its splits are train, test"
    with Hub("someone/stories", {"train-00000.jsonl": as_lines(stories[:90])}, "2" * 40) as hub:
        newer, older = reading(hub, tmp_path, plain, {**plain, "revision": COMMIT})
    assert texts(newer) == stories[:90]
    assert all(f"@{'2' * 40}/" in path for path, _, _, _ in newer["files"])
    assert newer["files"][0][3] != train["files"][0][3]
    assert older["kind"] == "RequestError"
    (gone,) = reading(hub, tmp_path, plain)
    assert gone["kind"] == "RequestError"
    assert "someone/stories: the dataset cannot be reached" in gone["line"]
