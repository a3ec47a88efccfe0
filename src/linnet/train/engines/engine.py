"""What the loop asks of wherever training runs. An engine knows its world; nobody else asks for a rank."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from linnet.data.batches import Batch
from linnet.model import Transformer
from linnet.objectives import Objective


class StopRequested(Exception):
    """A stop was asked for in the middle of a step; nothing of the step has been applied."""


def stop_where(interrupted: Callable[[], bool]) -> None:
    """Raises StopRequested when a stop was asked for."""
    if interrupted():
        raise StopRequested


@dataclass(frozen=True)
class Terms:
    """A step's loss: its sum over what is counted, still on the device, and how much was counted.

    measures: see Loss; here over the whole step.
    """

    loss_sum: Tensor
    counted: int
    measures: Mapping[str, Tensor] = field(default_factory=dict)

    def mean(self) -> float:
        """Loss per counted thing; 0 when none was counted."""
        return float(self.loss_sum) / max(1, self.counted)

    def means(self) -> dict[str, float]:
        """Each measure's sum by its number; one of nothing is left out."""
        sums = {name: value.tolist() for name, value in self.measures.items()}
        return {name: total / count for name, (total, count) in sums.items() if count}


@dataclass(frozen=True)
class Update:
    """What came of a step: the gradient norm before clipping, and whether the update was applied."""

    grad_norm: float
    applied: bool


class Engine(Protocol):
    """Where and in what precision a model is trained."""

    model: Transformer

    def accumulate(
        self, objective: Objective, batch: Batch, step: int, interrupted: Callable[[], bool]
    ) -> Terms:
        """Gradients of the step's mean loss, micro-batch by micro-batch."""

    def update(self, terms: Terms, learning_rate: float) -> Update:
        """Unscale, clip, check that all is finite, and only then apply."""

    def evaluate(
        self, objective: Objective, batches: Iterable[Batch], interrupted: Callable[[], bool]
    ) -> Terms:
        """Loss over held-out batches, without gradients or dropout."""

    def optimizer_state(self) -> dict[str, Tensor]:
        """Optimizer state as flat tensors, named by parameter."""

    def load_optimizer_state(self, load: Callable[[dict[str, Tensor]], None]) -> None:
        """Have `load` fill state tensors in place."""

    def numbers(self) -> dict[str, Any]:
        """The engine's own small state, as JSON takes it."""

    def load_numbers(self, numbers: dict[str, Any]) -> None:
        """Take back what `numbers` gave."""
