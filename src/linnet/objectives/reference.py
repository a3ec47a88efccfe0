"""What the model that a preference stage begins with says of every answer.

The reference never changes, so its log-probabilities are computed once, before the first step, and kept on
disk under a name made of their contents: the weights, every example's tokens and what of them is learned, and
how it was computed. A run that is resumed reads what the first one wrote, to the last bit. Computing them is
half of a preference step's forward passes, and without it a second model stays in memory.

The reference is read in evaluation mode, whatever mode the model is in, and without its adapters.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from linnet.config import RunError
from linnet.data.batches import Batch
from linnet.data.example_batches import digest_of_examples, padded
from linnet.data.examples import Example
from linnet.model import Transformer, lora
from linnet.objectives.token_logprobs import token_logprobs
from linnet.storage import write_durably

_WIDTH = 8  # widths are multiples of this, for kernels that like them


def answer_logprobs(model: Transformer, batch: Batch) -> Tensor:
    """Sum of log-probabilities of each row's learned tokens, [B] FP32, with a gradient; of none 0."""
    hidden = model(*batch.inputs)
    logprobs = token_logprobs(hidden.flatten(0, 1), model.head_weight, batch.targets.flatten())
    return logprobs.view(batch.targets.shape).sum(1)


@torch.no_grad()
def reference_answer_logprobs(model: Transformer, batch: Batch) -> Tensor:
    """The same of the reference: without dropout, adapters or gradient; the model is left as it was."""
    with _evaluating(model), lora.disabled(model):
        return answer_logprobs(model, batch)


@contextmanager
def _evaluating(model: Transformer) -> Iterator[None]:
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


def frozen_copy(model: Transformer) -> Transformer:
    """The model as it is now, for a live reference: on the same device, never trained."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def reference_logprobs(
    model: Transformer,
    examples: Sequence[Example],
    pad_id: int,
    token_budget: int,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """What the reference says of each example: sums over its learned tokens, [n] FP32 on the CPU.

    Args:
        model: on its device, in the precision it is trained in.
        examples: as batches will hold them whole.
        token_budget: places of a batch, padding and all; a single longer example is a batch of its own.
        progress: told after each batch how many examples are done, and of how many.
    """
    found = torch.zeros(len(examples))
    device = next(model.parameters()).device
    done = 0
    for rows in _alike(examples, token_budget):
        some = [examples[row] for row in rows]
        batch = padded(some, _width(max(example.places for example in some)), pad_id).to(device)
        found[rows] = reference_answer_logprobs(model, batch).float().cpu()
        done += len(rows)
        if progress is not None:
            progress(done, len(examples))
    return found


def _width(places: int) -> int:
    return -(-places // _WIDTH) * _WIDTH


def _alike(examples: Sequence[Example], token_budget: int) -> Iterator[list[int]]:
    """Examples of like length together; the longest first, so that what does not fit is known at once."""
    order = sorted(range(len(examples)), key=lambda row: -examples[row].places)
    while order:
        count = max(1, token_budget // _width(examples[order[0]].places))
        yield order[:count]
        order = order[count:]


def weights_digest(model: Transformer) -> str:
    """What decides the reference's weights: sha256 over every tensor but the adapters'."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if "lora_" not in name:
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def reference_key(weights: str, examples: Sequence[Example], *facts: object) -> str:
    """The name of what `reference_logprobs` gives: sha256 over weights' digest, examples, and further facts.

    Args:
        facts: what else decides the last bits: precision, device, token budget.
    """
    return hashlib.sha256(repr((weights, digest_of_examples(examples), *facts)).encode()).hexdigest()


def cached_reference(folder: Path, key: str, compute: Callable[[], Tensor]) -> Tensor:
    """What was computed under this key before, or is now and is kept in the folder.

    A file that is damaged, or not of this key, is made anew.

    Raises:
        RunError: when the disk does not take it.
    """
    path = folder / f"reference-{key[:32]}.safetensors"
    kept = _kept(path, key)
    if kept is not None:
        return kept
    values = compute().contiguous()
    content = save({"logprobs": values}, metadata={"key": key, "sha256": _sha256(values)})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(path, content)
    except OSError as error:
        raise RunError(
            f"the reference's log-probabilities cannot be written ({error.strerror})", str(folder),
            "make room and run the same command again",
        ) from None  # fmt: skip
    return values


def _kept(path: Path, key: str) -> Tensor | None:
    try:
        with safetensors.safe_open(path, "pt") as file:
            facts, values = file.metadata() or {}, file.get_tensor("logprobs")
    except (OSError, safetensors.SafetensorError):
        return None
    whole = facts.get("key") == key and facts.get("sha256") == _sha256(values)
    return values if whole else None


def _sha256(values: Tensor) -> str:
    return hashlib.sha256(values.view(torch.uint8).numpy().data).hexdigest()
