"""Lengths with a unit, so that 300 never means steps to one room and tokens to another.

A run's length is said in steps, tokens or epochs; a warmup in steps or as a share of the run.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from linnet.config.errors import RequestError

Unit = Literal["steps", "tokens", "epochs"]
_SCALE = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_PATTERN = re.compile(
    r"^\s*([0-9][0-9_,]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*([kmbt]?)\s*(steps?|tokens?|epochs?)\s*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Length:
    """How long a run is: an amount of steps, tokens or epochs."""

    amount: float
    unit: Unit

    def __str__(self) -> str:
        amount = int(self.amount) if float(self.amount).is_integer() else self.amount
        return f"{amount} {self.unit}"

    def steps(self, tokens_per_step: int, tokens_per_epoch: int) -> int:
        """This length in optimizer steps, rounded up, at least 1."""
        if self.unit == "steps":
            count = self.amount
        elif self.unit == "tokens":
            count = self.amount / tokens_per_step
        else:
            count = self.amount * tokens_per_epoch / tokens_per_step
        return max(1, math.ceil(count - 1e-9))


def parse_length(value: Any) -> Length:
    """Read `"300 steps"`, `"10B tokens"`, `"1.5 epochs"`.

    Raises:
        RequestError: when there is no unit that is known here, or an amount that is not positive.
    """
    if isinstance(value, Length):
        return value
    mend = "write for example '300 steps', '10B tokens' or '2 epochs'"
    match = _PATTERN.match(value) if isinstance(value, str) else None
    if match is None:
        raise RequestError(f"{value!r} is not a length in steps, tokens or epochs", mend=mend)
    number, scale, word = match.groups()
    unit = word.lower() if word.lower().endswith("s") else word.lower() + "s"
    amount = round(float(number.replace(",", "").replace("_", "")) * _SCALE[scale.lower()], 6)  # 2.3k is 2300
    if not amount > 0:
        raise RequestError(f"{value!r} is not a length above zero", mend=mend)
    if unit == "steps" and not amount.is_integer():
        raise RequestError(f"{value!r} is not a whole number of steps", mend=mend)
    return Length(amount, unit)  # type: ignore[arg-type]


def _as_value_error(value: Any) -> Length:
    try:
        return parse_length(value)
    except RequestError as error:
        raise _Explained(error) from None


class _Explained(ValueError):
    def __init__(self, error: RequestError) -> None:
        super().__init__(error.line())


LengthField = Annotated[
    Length,
    BeforeValidator(_as_value_error),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string"}),
]


def share_of(steps: int | float, total: int) -> int:
    """A count of steps given as a whole number, or as a share (below 1) of `total` steps."""
    return round(steps * total) if isinstance(steps, float) and steps < 1 else int(steps)
