"""Correctness: every result against a reference in float64, and nothing compiled more often than needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from machine import CUDA, DEVICE, machine, stand_in
from part import Found

HALF_BOUND, FULL_BOUND = 0.03, 1e-3  # relative errors that rounding alone explains; TF32 is near 3e-4
MODEL = {
    "vocab_size": 512, "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 256, "max_position_embeddings": 256,
}  # fmt: skip


def error(found: torch.Tensor, right: torch.Tensor) -> float:
    """‖found − right‖ / ‖right‖; NaN never passes a bound."""
    return float((found.double() - right.double()).norm() / right.double().norm())


def bounded(errors: dict[str, float], bound: Callable[[str], float]) -> str:
    """All errors as one line; AssertionError when one is beyond its bound."""
    bad = {name: value for name, value in errors.items() if not value < bound(name)}
    assert not bad, f"beyond rounding: {bad}"
    return ", ".join(f"{name} {value:.1e}" for name, value in errors.items())


def reference_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, documents: torch.Tensor) -> Any:
    """Explicit softmax in float64; q, k, v [B, T, heads, head], documents [B, T]."""
    groups = q.shape[2] // k.shape[2]
    q, k, v = (x.double().transpose(1, 2) for x in (q, k, v))
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    same = documents[:, None, :, None] == documents[:, None, None, :]
    scores = (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5
    return (scores.masked_fill(~same.tril(), float("-inf")).softmax(-1) @ v).transpose(1, 2)


def attention() -> Found:
    """Each path, packed and whole, its output and gradients, in every precision that it has."""
    from linnet.model.attention import PATHS, attention_path, cumulative_lengths, whole_mask

    note = stand_in()
    length = 512 if CUDA else 64
    torch.manual_seed(0)
    errors: dict[str, float] = {}
    for name in PATHS:
        attend, mask_of = attention_path(name)
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            if name == "varlen" and dtype == torch.float32:
                continue
            counts = (8, 2, 2)
            q, k, v = (
                torch.randn(2, length, n, 64, device=DEVICE).to(dtype).requires_grad_() for n in counts
            )
            documents = (torch.rand(2, length, device=DEVICE) < 0.05).long().cumsum(1)
            whole = torch.zeros_like(documents)
            masks = {
                "packed": (mask_of(documents, cumulative_lengths(documents)), documents),
                "whole": (whole_mask(name, 2, length, q.device), whole),
                "none": (None, whole),
            }
            for kind, (mask, where) in masks.items():
                label = f"{name} {kind} {str(dtype)[6:]}"
                right = reference_attention(q, k, v, where)
                if name == "flex" and not CUDA:
                    with torch.no_grad():
                        errors[label] = error(attend(q.detach(), k.detach(), v.detach(), mask, 0.0), right)
                    continue
                y = attend(q, k, v, mask, 0.0)
                weight = torch.randn_like(right)
                got = torch.autograd.grad((y.double() * weight).sum(), (q, k, v))
                wanted = torch.autograd.grad((right * weight).sum(), (q, k, v))
                pairs = [(y, right), *zip(got, wanted, strict=True)]
                errors[label] = max(error(a, b) for a, b in pairs)
    bounded(errors, lambda label: FULL_BOUND if label.endswith("float32") else HALF_BOUND)
    worst = max(errors, key=lambda label: errors[label])
    return f"{len(errors)} cases, worst {worst} {errors[worst]:.1e}{note}", {"errors": errors}


def _head(dtype: torch.dtype, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    rows, width = (9000, 256) if CUDA else (300, 32)
    hidden = torch.randn(rows, width, device=DEVICE).to(dtype).requires_grad_()
    weight = (torch.randn(vocabulary, width, device=DEVICE) * 0.05).requires_grad_()
    targets = torch.randint(0, vocabulary, (rows,), device=DEVICE)
    targets[::7] = -100
    return hidden, weight, targets


VOCABULARIES = (32_000, 50_257, 50_304) if CUDA else (320, 509)


def loss() -> Found:
    """The chunked loss and its gradients against float64."""
    from linnet.objectives.linear_cross_entropy import linear_cross_entropy

    errors = {}
    for vocabulary in VOCABULARIES:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            hidden, weight, targets = _head(dtype, vocabulary)
            found = linear_cross_entropy(hidden, weight, targets)
            got = torch.autograd.grad(found / len(targets), (hidden, weight))
            wide = hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
            right = F.cross_entropy(F.linear(*wide), targets, reduction="sum", ignore_index=-100)
            wanted = torch.autograd.grad(right / len(targets), wide)
            pairs = [(found, right), *zip(got, wanted, strict=True)]
            errors[f"{vocabulary} {str(dtype)[6:]}"] = max(error(a.detach(), b.detach()) for a, b in pairs)
    return bounded(errors, lambda n: FULL_BOUND if n.endswith("float32") else HALF_BOUND), {"errors": errors}


def token_logprobs() -> Found:
    """Log-probabilities of tokens and their gradients against float64."""
    from linnet.objectives.token_logprobs import token_logprobs as ours

    errors = {}
    for dtype in (torch.float32, torch.bfloat16):
        hidden, weight, targets = _head(dtype, VOCABULARIES[1])
        above = torch.randn(len(targets), device=DEVICE)
        found = ours(hidden, weight, targets, temperature=0.8)
        got = torch.autograd.grad((found * above).sum(), (hidden, weight))
        wide = hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
        right = -F.cross_entropy(F.linear(*wide) / 0.8, targets, reduction="none", ignore_index=-100)
        wanted = torch.autograd.grad((right * above).sum(), wide)
        pairs = [(found, right), *zip(got, wanted, strict=True)]
        errors[str(dtype)[6:]] = max(error(a.detach(), b.detach()) for a, b in pairs)
    return bounded(errors, lambda n: FULL_BOUND if n == "float32" else HALF_BOUND), {"errors": errors}


def engine(precision: str, *, checkpointing: bool = False, **hardware: Any) -> Any:
    """A small model with the engine that a run would give it."""
    from linnet.hardware import HardwareSettings, choose, detect
    from linnet.model import ModelSpec, Transformer, initialize
    from linnet.train import TrainSettings
    from linnet.train.engines import LocalEngine

    settings = TrainSettings(
        duration="100 steps", train_batch_size=16, micro_batch_size=8, learning_rate=3e-3,
        gradient_checkpointing=checkpointing,
    )  # fmt: skip
    model = Transformer(ModelSpec(architecture="qwen3", **MODEL))
    initialize(model, 0)
    choices = choose(HardwareSettings(precision=precision, **hardware), detect())
    return LocalEngine(model, settings, choices, 256 if CUDA else 64, seed=0)


def batch(documents: int = 0, seed: int = 1) -> Any:
    """16 rows of random tokens; of about so many documents each, or each one document."""
    from linnet.data.batches import Batch, document_layout

    length = 256 if CUDA else 64
    torch.manual_seed(seed)
    tokens = torch.randint(1, 512, (16, length + 1))
    if documents:
        tokens[:, :: -(-length // documents)] = 0
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    if not documents:
        return Batch(inputs, targets)
    layout, positions = document_layout(inputs.numpy(), 0)
    return Batch(inputs, targets, torch.from_numpy(positions), torch.from_numpy(layout))


def losses(engine: Any, batches: list[Any]) -> list[float]:
    """The loss of a step on each batch."""
    from linnet.objectives import NextToken

    found = []
    for step, one in enumerate(batches):
        terms = engine.accumulate(NextToken(), one, step, lambda: False)
        engine.update(terms, 3e-3)
        found.append(terms.mean())
    return found


def one_graph() -> Found:
    """Compiled blocks: one graph for five document counts, with and without checkpointing; losses as uncompiled."""
    import torch._dynamo
    from torch._dynamo.utils import counters

    note = ""
    if not CUDA:
        note = stand_in() + "; compiled by a backend that only counts"
        whole = torch.nn.Module.compile
        torch.nn.Module.compile = lambda self, **how: whole(self, backend="eager", **how)  # type: ignore[method-assign]
    batches = [batch(count, seed=count) for count in (1, 2, 3, 7, 20)]
    precision = "bf16" if CUDA else "fp32"
    plain = losses(engine(precision, compile=False), batches)
    said = []
    for checkpointing in (False, True):
        torch._dynamo.reset()
        counters.clear()
        compiled = engine(precision, compile=True, checkpointing=checkpointing)
        if not CUDA:
            compiled.model.use_attention("varlen")
        found = losses(compiled, batches)
        graphs = counters["stats"]["unique_graphs"]
        apart = max(abs(a - b) for a, b in zip(plain, found, strict=True))
        assert graphs == 1, f"{graphs} graphs for five document counts, checkpointing {checkpointing}"
        assert apart < 0.05, f"losses differ by {apart:.4f} from those of uncompiled blocks"
        said.append(f"{graphs} graph{', checkpointing' * checkpointing}, losses within {apart:.1e}")
    return "; ".join(said) + note, {}


def precision() -> Found:
    """FP32, BF16 and FP16 steps learn one batch by heart at nearly the same pace."""
    ends = {}
    for name in ("fp32", "bf16", "fp16"):
        found = losses(engine(name, compile=False), [batch()] * 30)
        assert found[-1] < found[0] - 1, f"{name}: {found[0]:.3f} → {found[-1]:.3f}"
        ends[name] = found[-1]
    assert max(ends.values()) - min(ends.values()) < 0.25, f"the precisions end apart: {ends}"
    return ", ".join(f"{name} {end:.3f}" for name, end in ends.items()), {"losses": ends}


def overflow() -> Found:
    """FP16 with a planted overflow: the step is skipped, the scale halves, training goes on."""
    trained = engine("fp16", compile=False)
    losses(trained, [batch()] * 3)
    before = {name: p.detach().clone() for name, p in trained.model.named_parameters()}
    scale = trained.scale.value
    trained.scale.value = 1e30
    losses(trained, [batch()])
    assert all(torch.equal(p, before[name]) for name, p in trained.model.named_parameters()), (
        "weights changed"
    )
    assert trained.scale.value == 5e29, f"the scale is {trained.scale.value}"
    trained.scale.value = scale
    found = losses(trained, [batch()] * 15)
    assert found[-1] < found[0], "the loss did not fall after the overflow"
    return "the step changed nothing; the loss fell after it", {}


class _Silent:
    """A tokenizer of numbers: nothing ends a text, and no token is shown."""

    eos_id, stop_ids, vocab_size = 0, (), MODEL["vocab_size"]

    def stream_decoder(self, prompt: Any = ()) -> _Silent:
        return self

    def feed(self, token: int) -> str:
        return ""

    def finish(self) -> str:
        return ""


def generate() -> Found:
    """64 greedy tokens from the cache, each the choice of a whole forward pass over what came before."""
    from linnet.infer import Generator, SamplingSettings

    model = engine("fp32", compile=False, attention="sdpa").model.eval()
    prompts = [[1, 2, 3], list(range(5, 45)), [7] * 20]
    settings = SamplingSettings(max_new_tokens=64, temperature=0.0)
    told = Generator(model, _Silent()).generate(prompts, settings)  # type: ignore[arg-type]
    same = total = 0
    for prompt, one in zip(prompts, told, strict=True):
        assert len(one.ids) == 64, f"{len(one.ids)} tokens"
        row = torch.tensor([prompt + one.ids], device=DEVICE)
        with torch.no_grad():
            choices = model.logits(model(row[:, :-1]))[0, len(prompt) - 1 :].argmax(-1)
        same, total = same + int((choices == row[0, len(prompt) :]).sum()), total + 64
    assert same >= 0.98 * total, f"{same} of {total} tokens are those of a whole forward pass"
    return f"{same} of {total} tokens are those of a whole forward pass", {}


PARTS: dict[str, Callable[..., Found]] = {
    "machine": machine,
    "attention": attention,
    "loss": loss,
    "token_logprobs": token_logprobs,
    "one_graph": one_graph,
    "precision": precision,
    "overflow": overflow,
    "generate": generate,
}
