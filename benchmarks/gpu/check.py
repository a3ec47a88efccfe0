"""`make gpu-check`: what needs a GPU, checked (`first`) and measured (`second`).

    python3 benchmarks/gpu/check.py [--plan first|second|recipes|life] [--only PART] [--out DIR]

Needs torch and what Linnet imports, but no installation and no network: missing packages are taken
from wheels in `.whl/` (see wheels.sh and docs/gpu.md). Without a CUDA device it rehearses on the CPU,
with small shapes, whatever can be rehearsed there, and says what it skipped.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from plans import PLANS
from scheduler import Part, Report, run_plan

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WHEELS = ROOT / ".whl"
REHEARSAL = 6.0  # a CPU without a GPU may take so many times as long


def environment(packages: Path) -> dict[str, str]:
    """The environment of every part: our source, what lies in wheels, and the caller's own paths."""
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    missing = [name for name in ("pydantic", "zstandard") if importlib.util.find_spec(name) is None]
    wheels = sorted(str(path) for path in WHEELS.glob("*.whl"))
    if missing and wheels:
        install = ["-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir"]
        subprocess.run(
            [sys.executable, *install, "--upgrade", "--target", str(packages), *wheels], check=True
        )
        paths.insert(1, str(packages))
    elif missing:
        print(f"{', '.join(missing)} cannot be imported and there are no wheels in {WHEELS}; see docs/gpu.md")
    path = os.pathsep.join(filter(None, paths))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}


def folder(out: str) -> Path:
    """Where results go: as asked, or where $OUT says, or into a folder of their own."""
    if out or os.environ.get("OUT"):
        return Path(out or os.environ["OUT"])
    return HERE.parent / "results" / "gpu" / time.strftime("%Y-%m-%d-%H%M%S", time.gmtime())


def command(part: Part) -> list[str]:
    """A part's command line: its kind, and its options as NAME=VALUE."""
    kind = part.name.split()[0]
    options = [f"{name}={value}" for name, value in part.options.items()]
    return [sys.executable, str(HERE / "part.py"), kind, *options]


def has_cuda() -> bool:
    """Whether the driver finds a device; asked without torch, whose import takes seconds."""
    try:
        driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except OSError:
        return False


def main() -> int:
    """Run a plan; 1 when a part failed, crashed or was killed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", choices=tuple(PLANS), default="first")
    parser.add_argument("--only", default="", help="parts whose name begins so")
    parser.add_argument("--out", default="", help="folder of the results; otherwise $OUT, or a new one")
    parser.add_argument("--nanogpt", default=os.environ.get("NANOGPT", ""), help="a checkout of nanoGPT")
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as packages:
        variables = {**environment(Path(packages)), "NANOGPT": args.nanogpt}
        cuda = has_cuda()
        if not cuda:
            print("no CUDA device: a rehearsal on the CPU, with small shapes")
        report = Report(folder(args.out), args.plan)
        parts = [part for part in PLANS[args.plan] if part.name.startswith(args.only)]
        patience = 1.0 if cuda else REHEARSAL
        results = run_plan(parts, command, report.add, report.log, variables, patience, began)
    bad = [one.part for one in results if one.bad]
    skipped = [one.part for one in results if one.outcome == "skipped"]
    print(f"{len(results) - len(bad) - len(skipped)} passed, {len(bad)} bad, {len(skipped)} skipped "
          f"in {time.monotonic() - began:.0f} s; results in {report.lines.parent}")  # fmt: skip
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
