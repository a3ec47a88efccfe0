"""One part of a plan, in a process of its own: `python part.py KIND [NAME=VALUE ...]`.

Writes what came of it to the file that GPU_CHECK_RESULT names, or prints it where there is none.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from scheduler import RESULT_FILE


class Skip(Exception):
    """This part cannot run on this machine; says why."""


Found = tuple[str, dict[str, Any]]


def parts() -> dict[str, Callable[..., Found]]:
    """Every kind of part."""
    import correct
    import speed

    return {**correct.PARTS, **speed.PARTS}


def run(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """Run a part; a check that does not hold is `failed`, anything else that goes wrong is `crashed`."""
    try:
        detail, figures = parts()[kind](**options)
        return {"outcome": "passed", "detail": detail, "figures": figures}
    except Skip as why:
        return {"outcome": "skipped", "detail": str(why), "figures": {}}
    except Exception as error:
        traceback.print_exc()
        outcome = "failed" if isinstance(error, AssertionError) else "crashed"
        said = f"{type(error).__name__}: {error}" if outcome == "crashed" else str(error)
        return {"outcome": outcome, "detail": " ".join(said.split())[:300] or "a check failed", "figures": {}}


def main() -> int:
    """Run the part that the command line names."""
    options = dict(word.split("=", 1) for word in sys.argv[2:])
    numbers = {name: int(value) if value.isdigit() else value for name, value in options.items()}
    found = run(sys.argv[1], numbers)
    if RESULT_FILE in os.environ:
        with open(os.environ[RESULT_FILE], "w", encoding="utf-8") as file:
            json.dump(found, file)
    else:
        print(json.dumps(found, indent=1))
    return int(found["outcome"] not in ("passed", "skipped"))


if __name__ == "__main__":
    sys.modules["part"] = sys.modules["__main__"]  # so that parts raise this Skip and not a second one
    sys.exit(main())
