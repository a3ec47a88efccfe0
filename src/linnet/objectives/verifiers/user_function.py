"""A reward function of the user's own: `python:path/to/file.py:function`, in TRL's signature.

It runs in this process and is trusted as the recipe is. Its file is read once. A function without `**kwargs` is
given only the columns that it names.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from linnet.config import RequestError

_loading = threading.Lock()
_loaded: dict[Path, Any] = {}
EXAMPLE = "python:rewards.py:my_reward"


def load_function(reference: str) -> Callable[..., Any]:
    """The function that `path/to/file.py:function` names.

    Raises:
        RequestError: when there is no such file or function, or the file fails; with file and line.
    """
    path_text, colon, name = reference.rpartition(":")
    if not colon or not name.isidentifier():
        raise RequestError(f"{reference!r} names no function", "", f"write for example {EXAMPLE!r}")
    path = Path(path_text).expanduser().resolve()
    if not path.is_file():
        raise RequestError("there is no such file of reward functions", path_text, "paths count from the "
                           "folder where the command runs")  # fmt: skip
    module = _module(path, path_text)
    function = getattr(module, name, None)
    if not callable(function):
        there = [n for n, v in vars(module).items() if inspect.isfunction(v) and not n.startswith("_")]
        raise RequestError(f"there is no function {name!r}", path_text,
                           f"it has: {', '.join(there)}" if there else "it has no functions")  # fmt: skip
    return function  # type: ignore[no-any-return]


def _module(path: Path, shown: str) -> Any:
    with _loading:
        if path not in _loaded:
            name = f"linnet_rewards_{path.stem}_{len(_loaded)}"
            spec = importlib.util.spec_from_file_location(name, path)
            if spec is None or spec.loader is None:
                raise RequestError("this is not a Python file", shown, f"write for example {EXAMPLE!r}")
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module  # dataclasses and pickle look a module up by its name
            try:
                spec.loader.exec_module(module)
            except (Exception, SystemExit) as error:
                del sys.modules[name]
                raise RequestError(described(error), place(error, path, shown), "mend the file") from None
            _loaded[path] = module
        return _loaded[path]


def described(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def place(error: BaseException, path: Path, shown: str) -> str:
    """`file:line` of the last frame of an error that lies in a file; the file alone when none does."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{shown}:{error.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    return f"{shown}:{lines[-1]}" if lines and lines[-1] else shown


def accepted(function: Callable[..., Any], columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a function takes.

    Raises:
        RequestError: when it needs a column that is not there.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return dict(columns)
    needed = [n for n, p in parameters.items()
              if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]  # fmt: skip
    missing = [name for name in needed if name not in columns]
    if missing:
        there = ", ".join(sorted(columns))
        raise RequestError(f"the function {getattr(function, '__name__', '?')} takes {missing[0]!r}, which is no "
                           f"column; there are: {there}")  # fmt: skip
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(columns)
    return {name: value for name, value in columns.items() if name in parameters}


def as_rewards(returned: Any, count: int) -> list[float | None]:
    """What a function returned, as one reward or None a completion.

    Raises:
        TypeError: when it is not a list of numbers and None.
        ValueError: when there are not `count` of them, or one is infinite.
    """
    if isinstance(returned, (str, bytes, Mapping)) or not (
        isinstance(returned, Sequence) or hasattr(returned, "tolist")
    ):
        raise TypeError(f"it returned {type(returned).__name__}, not a list of numbers")
    values = returned.tolist() if hasattr(returned, "tolist") else list(returned)
    if not isinstance(values, list) or len(values) != count:
        given = len(values) if isinstance(values, list) else 1
        raise ValueError(f"it returned {given} rewards for {count} completions")
    rewards = [_number(value) for value in values]
    if any(reward is not None and math.isinf(reward) for reward in rewards):
        raise ValueError("it returned an infinite reward")
    return rewards


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, (str, bytes)):
        raise TypeError(f"it returned {value!r} where a number belongs")
    number = float(value)
    return None if math.isnan(number) else number
