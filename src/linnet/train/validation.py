"""How good a model is on what is held out, the same sequences every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from linnet.data.batches import Batch
from linnet.objectives import Objective
from linnet.train.engines import Engine


class Evaluation(NamedTuple):
    """score: what a better model has less of (a loss; a reward times -1). metrics: by name, as `val/loss`."""

    score: float
    metrics: dict[str, float]


class Validation(Protocol):
    """Measures a model in an engine; metric is what the best checkpoint is chosen by."""

    @property
    def metric(self) -> str: ...

    @property
    def higher_is_better(self) -> bool: ...

    def __call__(
        self, engine: Engine, objective: Objective, interrupted: Callable[[], bool]
    ) -> Evaluation: ...


class HeldOut(Protocol):
    """Held-out sequences."""

    def batches(self, size: int, limit: int | None = None) -> Iterable[Batch]:
        """In batches of `size`; at most `limit` of them (rows, or groups), the same ones every time."""


@dataclass(frozen=True)
class HeldOutLoss:
    """The objective's own loss over what is held out, by domain.

    Args:
        parts: by domain. weights: what each domain's loss weighs in `val/loss`; 1 where nothing is said.
        micro_batch_size: sequences at a time; None: as in training. limit: of sequences in all.
        perplexity: whether the loss is one of tokens.
    """

    parts: Mapping[str, HeldOut]
    weights: Mapping[str, float] = field(default_factory=dict)
    micro_batch_size: int | None = None
    limit: int | None = None
    perplexity: bool = True
    metric: str = "val/loss"
    higher_is_better: bool = False

    def __call__(self, engine: Engine, objective: Objective, interrupted: Callable[[], bool]) -> Evaluation:
        """The loss, and its measures."""
        size = self.micro_batch_size or int(engine.numbers()["micro_batch_size"])
        limit = self.limit and max(1, self.limit // len(self.parts))
        losses: dict[str, float] = {}
        metrics: dict[str, float] = {}
        for domain, part in self.parts.items():
            terms = engine.evaluate(objective, part.batches(size, limit), interrupted)
            losses[domain] = terms.mean()
            metrics |= {f"val/{name}": value for name, value in terms.means().items()}
        weights = {domain: self.weights.get(domain, 1.0) for domain in losses}
        loss = sum(weights[domain] * losses[domain] for domain in losses) / sum(weights.values())
        metrics = self._named("val", loss) | metrics
        if len(losses) > 1:
            for domain, value in losses.items():
                metrics |= self._named(f"val/{domain}", value)
        return Evaluation(loss, metrics)

    def _named(self, name: str, loss: float) -> dict[str, float]:
        ppl = {f"{name}/ppl": math.exp(min(loss, 700.0))} if self.perplexity else {}
        return {f"{name}/loss": loss, **ppl}
