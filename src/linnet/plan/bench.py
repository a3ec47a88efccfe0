"""A training step, measured: the very engine, objective and loader that a run uses.

Tokens are random (the work does not depend on which they are), so no data has to be there.
The machine's own matrix rate is measured in the same process before and after, since shared
machines change their speed from minute to minute; the better one is taken.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from linnet.config import RunError
from linnet.data.batches import Windows
from linnet.data.settings import DataSettings
from linnet.data.shards.store import Shard, Split, token_dtype
from linnet.data.training import TrainBatches
from linnet.hardware import (
    Choices,
    gpu_memory,
    matrix_rate,
    peak_flops,
    peak_memory,
    reset_gpu_peak,
)
from linnet.model import ModelSpec, count_parameters, flops_per_token, score_flops
from linnet.model.initialize import fresh
from linnet.objectives import NextToken
from linnet.train import TrainSettings
from linnet.train.engines import LocalEngine

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_DOCUMENT_TOKENS = 300  # an end of text about this often, so that document masks have something to do


@dataclass(frozen=True)
class StepMeasurement:
    """What a training step of a shape does on this machine.

    Speeds are of the fastest and of the median step. `model_flops_per_second` counts forward and
    backward matrix products (see `model.flops_per_token`), nothing recomputed; so do `mfu` and
    `share_of_matrix_rate`. `mfu_causal_documents` counts of attention only the pairs that are causal and
    within one document, here documents of about 300 tokens. `matrix_rate` is what
    a plain matrix product reached in the same process; `peak_flops` the datasheet's dense peak.
    Memory is the process's largest resident size on a CPU, torch's peak allocation on a GPU.
    """

    parameters: int
    sequence_length: int
    train_batch_size: int
    micro_batch_size: int
    precision: str
    attention: str
    compiled: bool
    steps: int
    tokens_per_second: float
    tokens_per_second_median: float
    model_flops_per_second: float
    matrix_rate: float
    share_of_matrix_rate: float
    peak_flops: float | None
    mfu: float | None
    mfu_causal_documents: float | None
    gradient_checkpointing: bool
    peak_memory_bytes: int
    data_wait_percent: float
    first_step_seconds: float


def measure_step(
    spec: ModelSpec,
    settings: TrainSettings,
    data: DataSettings,
    choices: Choices,
    steps: int = 10,
    warmup: int = 2,
    seed: int = 0,
) -> StepMeasurement:
    """Run `warmup` and then `steps` training steps of a freshly initialised model and time each.

    Raises:
        RunError: when the device's memory is too small for one sequence.
    """
    dtype = _DTYPES[choices.precision.value]
    rate = matrix_rate(choices.machine, dtype)
    model = fresh(spec, seed, choices.device.value)
    engine = LocalEngine(model, settings, choices, data.sequence_length, seed)
    reset_gpu_peak()
    with _random_batches(spec, settings, data, warmup + steps) as batches:
        stream = batches.stream(0, warmup + steps, data.num_workers, pin=choices.device.value == "cuda")
        times, waits = [], []
        for step in range(warmup + steps):
            began = time.perf_counter()
            batch = next(stream)
            waits.append(time.perf_counter() - began)
            terms = engine.accumulate(NextToken(), batch, step, lambda: False)
            engine.update(terms, settings.learning_rate)
            times.append(time.perf_counter() - began)
        del stream
    if not np.isfinite(float(terms.loss_sum)):
        raise RunError("the loss of the measured step is not finite", "bench", "try hardware.precision=fp32")
    memory = gpu_memory() if choices.device.value == "cuda" else None
    rate = max(rate, matrix_rate(choices.machine, dtype))
    tokens = settings.train_batch_size * data.sequence_length
    speed = tokens / min(times[warmup:])
    flops = speed * flops_per_token(spec, data.sequence_length)
    peak = peak_flops(choices.machine, choices.precision.value)
    unneeded = batch.tokens.shape[1] - batch.pairs / batch.tokens.numel()  # pairs per token
    needed = flops - speed * unneeded * score_flops(spec)
    return StepMeasurement(
        parameters=count_parameters(spec).total,
        sequence_length=data.sequence_length,
        train_batch_size=settings.train_batch_size,
        micro_batch_size=engine.micro_batch_size,
        precision=choices.precision.value,
        attention=choices.attention.value,
        compiled=choices.compile.value,
        steps=steps,
        tokens_per_second=speed,
        tokens_per_second_median=tokens / float(np.median(times[warmup:])),
        model_flops_per_second=flops,
        matrix_rate=rate,
        share_of_matrix_rate=flops / rate,
        peak_flops=peak,
        mfu=flops / peak if peak else None,
        mfu_causal_documents=needed / peak if peak else None,
        gradient_checkpointing=engine.checkpointing,
        peak_memory_bytes=memory.peak_allocated if memory else peak_memory(),
        data_wait_percent=100 * sum(waits[warmup:]) / sum(times[warmup:]),
        first_step_seconds=times[0],
    )


@contextmanager
def _random_batches(
    spec: ModelSpec, settings: TrainSettings, data: DataSettings, steps: int
) -> Iterator[TrainBatches]:
    count = steps * settings.train_batch_size * data.sequence_length + 1
    count = min(count, 1 << 24)  # longer benches read the same tokens again
    dtype = token_dtype(spec.vocab_size)
    tokens = np.random.default_rng(0).integers(1, spec.vocab_size, count).astype(dtype)
    tokens[::_DOCUMENT_TOKENS] = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.bin"
        tokens.tofile(path)
        split = Split((Shard(path, count, ""),), dtype)
        windows = Windows(split, data.sequence_length, eos_id=0, document_mask=data.document_mask)
        yield TrainBatches.over(windows, settings.train_batch_size, seed=0)
