"""The engine for one device: a CPU, one GPU, or Apple's MPS."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from linnet.config import RunError
from linnet.data.batches import Batch
from linnet.hardware import Choices
from linnet.model import Transformer
from linnet.model.dropout import row_keys, seed_rows
from linnet.objectives import Objective
from linnet.train.engines.engine import StopRequested, Terms, Update
from linnet.train.engines.microbatch import checkpoints, micro_batch_size
from linnet.train.engines.prepare import prepare, recompute_activations
from linnet.train.engines.scaling import LossScale
from linnet.train.optimizers import optimizers_for
from linnet.train.settings import TrainSettings


class LocalEngine:
    """Gradients, clipping and updates on one device."""

    def __init__(
        self, model: Transformer, settings: TrainSettings, choices: Choices, sequence_length: int, seed: int
    ) -> None:
        self.device = torch.device(choices.device.value)
        self.model = prepare(model, choices)
        self.optimizers = optimizers_for(model, settings)
        self._make_optimizer_state()
        self.max_grad_norm, self.seed = settings.max_grad_norm, seed
        self.scale = LossScale.for_fp16() if choices.loss_scaling else LossScale()
        self._automatic = settings.micro_batch_size == "auto"
        self.checkpointing = checkpoints(settings, choices, model.spec, sequence_length)
        self._may_checkpoint = settings.gradient_checkpointing == "auto"
        if self.checkpointing:
            recompute_activations(model)
        facts = (settings, choices, model.spec, sequence_length)
        self.micro_batch_size = micro_batch_size(*facts, self.checkpointing)

    @property
    def _parameters(self) -> list[Tensor]:
        return [
            p for optimizer in self.optimizers for group in optimizer.param_groups for p in group["params"]
        ]

    def accumulate(
        self, objective: Objective, batch: Batch, step: int, interrupted: Callable[[], bool]
    ) -> Terms:
        """Gradients of the step's mean loss, micro-batch by micro-batch.

        On a GPU that runs out of memory the micro-batch is halved and the step begun again; where a single
        sequence is too much and `gradient_checkpointing` is auto, activations are recomputed from then on.

        Raises:
            StopRequested: between micro-batches, when `interrupted` says so.
            RunError: when a single sequence does not fit the device.
        """
        while True:
            try:
                return self._accumulate(objective, batch, step, interrupted)
            except torch.OutOfMemoryError:
                self._forget_gradients()
                if self.micro_batch_size == 1 and self._may_checkpoint and not self.checkpointing:
                    self.checkpointing = True
                    recompute_activations(self.model)
                elif self.micro_batch_size == 1:
                    raise RunError(
                        "one sequence does not fit the device's memory", "micro_batch_size",
                        "set the stage's gradient_checkpointing=true or shorten its data.sequence_length",
                    ) from None  # fmt: skip
            torch.cuda.empty_cache()
            self.micro_batch_size = max(1, self.micro_batch_size // 2)

    def _accumulate(
        self, objective: Objective, batch: Batch, step: int, interrupted: Callable[[], bool]
    ) -> Terms:
        self.model.train()
        counted = objective.counted(batch)
        weight = self.scale.value / max(1, counted)
        # Dropout is a function of (seed, step, row) and not of a stream, so there is no state to save.
        keys = row_keys(self.model, draw_seed(self.seed, step), len(batch.tokens))
        total = torch.zeros((), dtype=torch.float64 if self.device.type != "mps" else torch.float32)
        total = total.to(self.device)
        measures: dict[str, Tensor] = {}
        for start in range(0, len(batch), self.micro_batch_size):
            if interrupted():
                self._forget_gradients()
                raise StopRequested
            part = batch.rows(start, start + self.micro_batch_size).to(self.device)
            first = start * batch.group
            seed_rows(self.model, keys[:, first : first + len(part.tokens)].to(self.device))
            loss = objective.loss(self.model, part)
            (loss.sum * weight).backward()
            total += loss.sum.detach()
            _add(measures, loss.measures)
        return Terms(total, counted, measures)

    def update(self, terms: Terms, learning_rate: float) -> Update:
        """Unscale, clip, check that all is finite, and only then apply.

        A step whose loss or gradients are not finite is left out whole: weights and optimizer state stay.
        """
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients)) / self.scale.value
        finite = math.isfinite(norm) and math.isfinite(float(terms.loss_sum))
        if finite:
            clip = min(1.0, self.max_grad_norm / (norm + 1e-6)) if self.max_grad_norm else 1.0
            if clip != self.scale.value:
                torch._foreach_mul_(gradients, clip / self.scale.value)
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate
                optimizer.step()
        self.scale.update(finite)
        self._forget_gradients()
        return Update(norm, finite)

    def _forget_gradients(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def evaluate(
        self, objective: Objective, batches: Iterable[Batch], interrupted: Callable[[], bool]
    ) -> Terms:
        """Loss over held-out batches, without gradients or dropout.

        Raises:
            StopRequested: between batches, when `interrupted` says so.
        """
        self.model.eval()
        total, counted = 0.0, 0
        measures: dict[str, Tensor] = {}
        for batch in batches:
            if interrupted():
                raise StopRequested
            counted += objective.counted(batch)
            loss = objective.loss(self.model, batch.to(self.device))
            total += float(loss.sum)
            _add(measures, loss.measures)
        return Terms(torch.tensor(total, dtype=torch.float64), counted, measures)

    def optimizer_state(self) -> dict[str, Tensor]:
        """Optimizer state as flat tensors: `layers.0.mlp.up_proj.weight.exp_avg` and so on."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        return {
            f"{names[id(p)]}.{key}": value
            for optimizer in self.optimizers
            for p, state in optimizer.state.items()
            for key, value in state.items()
        }

    def load_optimizer_state(self, load: Callable[[dict[str, Tensor]], None]) -> None:
        """Have `load` fill the state tensors in place."""
        load(self.optimizer_state())

    def _make_optimizer_state(self) -> None:
        """The state an optimizer would make at its first step, made now: a run may be saved before that."""
        for optimizer in self.optimizers:
            adam = isinstance(optimizer, torch.optim.AdamW)
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if adam:
                        place = p.device if group["fused"] else "cpu"
                        optimizer.state[p] = {
                            "step": torch.zeros((), dtype=torch.float32, device=place),
                            "exp_avg": torch.zeros_like(p),
                            "exp_avg_sq": torch.zeros_like(p),
                        }
                    else:
                        optimizer.state[p] = {"momentum_buffer": torch.zeros_like(p)}

    def numbers(self) -> dict[str, Any]:
        """Loss scale and micro-batch size."""
        return {
            "loss_scale": self.scale.value if self.scale.dynamic else None,
            "since_overflow": self.scale.since_overflow,
            "micro_batch_size": self.micro_batch_size,
        }

    def load_numbers(self, numbers: dict[str, Any]) -> None:
        """Take back what `numbers` gave. A micro-batch picked automatically stays what it was: sums stay equal."""
        if self.scale.dynamic and numbers["loss_scale"] is not None:
            self.scale.value, self.scale.since_overflow = numbers["loss_scale"], numbers["since_overflow"]
        if self._automatic:
            self.micro_batch_size = numbers["micro_batch_size"]


def _add(sums: dict[str, Tensor], more: Mapping[str, Tensor]) -> None:
    for name, value in more.items():
        sums[name] = sums[name] + value.detach() if name in sums else value.detach()


def draw_seed(*facts: int) -> int:
    """A 63-bit seed from whole numbers."""
    return int.from_bytes(hashlib.blake2b(repr(facts).encode(), digest_size=8).digest(), "big") >> 1
