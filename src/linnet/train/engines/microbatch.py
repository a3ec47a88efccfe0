"""How many sequences are computed at a time. It changes memory and speed, never which tokens are learned."""

from __future__ import annotations

import torch

from linnet.hardware import Choices
from linnet.model import ModelSpec, count_parameters
from linnet.train.settings import TrainSettings

CPU_TOKENS = 4096  # more than this no longer speeds up a CPU, and costs memory
ENOUGH_TOKENS = 8192  # from so many tokens at a time on a GPU is busy; recomputing to have more costs more
_CHECKPOINTED = 2  # values kept per token, layer and hidden unit: a block's input, and room for one block
_USABLE = 0.8


def activation_values(spec: ModelSpec, compiled: bool, width: int) -> float:
    """Values kept for backward per token, layer and hidden unit, in units of the compute dtype.

    Counted from what autograd saves in a block (`saved_tensors_hooks`): the inputs of the linear layers,
    queries, keys and values, what attention gives, and the MLP's inner values. Compiled, norms and
    activations are computed again in backward; otherwise they are kept, norms in FP32.

    Args:
        width: bytes of a value in the compute dtype.
    """
    size = spec.hidden_size
    queries = spec.num_attention_heads * spec.head_size / size
    keys = spec.key_value_heads * spec.head_size / size
    inner = spec.intermediate_size / size
    attention = 2 * queries + 2 * keys
    before_norm = queries + keys if spec.qk_norm else 0.0
    if compiled:
        return 3 + queries + attention + before_norm + (3 if spec.gated_mlp else 2) * inner
    norm = (1 if spec.layer_norm else 2) * 4 / width  # a LayerNorm keeps its input, an RMSNorm two steps
    return 2 + attention + norm * (2 + before_norm) + (4 if spec.gated_mlp else 2) * inner


def fitting_rows(choices: Choices, spec: ModelSpec, sequence_length: int, checkpointing: bool) -> int:
    """How many sequences should fit a GPU's memory, with weights and optimizer state already there."""
    width = 4 if choices.precision.value == "fp32" else 2
    kept = _CHECKPOINTED if checkpointing else activation_values(spec, choices.compile.value, width)
    sequence = sequence_length * spec.num_hidden_layers * spec.hidden_size * kept * width
    # Gradients, and in half precision the copies that the products read, are still to come.
    to_come = (4 + (width if width < 4 else 0)) * count_parameters(spec).total
    free, _ = torch.cuda.mem_get_info()
    return int((free - to_come) * _USABLE / sequence)


def checkpoints(settings: TrainSettings, choices: Choices, spec: ModelSpec, sequence_length: int) -> bool:
    """Whether activations are recomputed: as asked; `auto`, where too few rows fit a GPU otherwise."""
    if settings.gradient_checkpointing != "auto":
        return settings.gradient_checkpointing
    if choices.device.value != "cuda":
        return False
    asked = settings.micro_batch_size
    wanted = (
        min(settings.train_batch_size, -(-ENOUGH_TOKENS // sequence_length)) if asked == "auto" else asked
    )
    return fitting_rows(choices, spec, sequence_length, checkpointing=False) < wanted


def micro_batch_size(
    settings: TrainSettings, choices: Choices, spec: ModelSpec, sequence_length: int, checkpointing: bool
) -> int:
    """The recipe's own number, or the largest that divides the batch and should fit.

    On a GPU the estimate counts activations against the memory that is free beside weights, gradients
    and optimizer state; an engine halves it when the estimate was too bold.
    """
    if isinstance(settings.micro_batch_size, int):
        return settings.micro_batch_size
    if choices.device.value == "cuda":
        fitting = fitting_rows(choices, spec, sequence_length, checkpointing)
    else:
        fitting = CPU_TOKENS // sequence_length
    fitting = max(1, min(fitting, settings.train_batch_size))
    return max(n for n in range(1, fitting + 1) if settings.train_batch_size % n == 0)
