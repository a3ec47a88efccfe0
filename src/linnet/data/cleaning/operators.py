"""What comparing and reckoning mean in a filter: as in Python, but None is let through and nothing grows.

Arithmetic takes numbers alone, so that no text or list can be multiplied to fill the memory.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

_SHOWN = 60


def _of_numbers(apply: Callable[..., Any]) -> Callable[..., Any]:
    def value(*numbers: Any) -> Any:
        if any(number is None for number in numbers):
            return None
        if not all(isinstance(number, (int, float)) for number in numbers):
            raise TypeError
        try:
            return apply(*numbers)
        except ZeroDivisionError:
            return None

    return value


def _ordered(apply: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda left, right: left is not None and right is not None and apply(left, right)


def _within(left: Any, right: Any) -> bool:
    return right is not None and not (left is None and isinstance(right, str)) and left in right


def _not_within(left: Any, right: Any) -> bool:
    return right is not None and not (left is None and isinstance(right, str)) and left not in right


ARITHMETIC: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _of_numbers(operator.add),
    ast.Sub: _of_numbers(operator.sub),
    ast.Mult: _of_numbers(operator.mul),
    ast.Div: _of_numbers(operator.truediv),
    ast.FloorDiv: _of_numbers(operator.floordiv),
    ast.Mod: _of_numbers(operator.mod),
}
SIGNS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.USub: _of_numbers(operator.neg),
    ast.UAdd: _of_numbers(operator.pos),
}
COMPARISONS: dict[type[ast.AST], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: _ordered(operator.lt),
    ast.LtE: _ordered(operator.le),
    ast.Gt: _ordered(operator.gt),
    ast.GtE: _ordered(operator.ge),
    ast.In: _within,
    ast.NotIn: _not_within,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}


def shown(value: Any) -> str:
    """A value, or a part of an expression, short enough for a message."""
    try:
        if isinstance(value, ast.AST):
            text = ast.unparse(value)
        else:
            text = repr(value[: _SHOWN + 1] if isinstance(value, str) else value)
    except ValueError:  # Python does not spell out numbers of more than 4,300 digits
        text = "a very large number"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
