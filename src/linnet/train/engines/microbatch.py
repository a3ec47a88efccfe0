"""How many sequences are computed at a time. It changes memory and speed, never which tokens are learned."""

from __future__ import annotations

import torch

from linnet.hardware import Choices
from linnet.model import ModelSpec, count_parameters
from linnet.train.settings import TrainSettings

CPU_TOKENS = 4096  # more than this no longer speeds up a CPU, and costs memory
_ACTIVATIONS = 40  # values kept for backward per token, layer and hidden unit, norms and MLP included
_USABLE = 0.8


def micro_batch_size(settings: TrainSettings, choices: Choices, spec: ModelSpec, sequence_length: int) -> int:
    """The recipe's own number, or the largest that divides the batch and should fit.

    On a GPU the estimate counts activations against the memory that is free once weights,
    gradients and optimizer state (16 bytes a parameter) have their place; an engine halves it
    when the estimate was too bold.
    """
    if isinstance(settings.micro_batch_size, int):
        return settings.micro_batch_size
    if choices.device.value == "cuda":
        width = 2 if choices.precision.value != "fp32" else 4
        kept = 2 if settings.gradient_checkpointing else _ACTIVATIONS
        sequence = sequence_length * spec.num_hidden_layers * spec.hidden_size * kept * width
        free, _ = torch.cuda.mem_get_info()
        weights = 16 * count_parameters(spec).total
        fitting = int((free - weights) * _USABLE / sequence)
    else:
        fitting = CPU_TOKENS // sequence_length
    fitting = max(1, min(fitting, settings.train_batch_size))
    return max(n for n in range(1, fitting + 1) if settings.train_batch_size % n == 0)
