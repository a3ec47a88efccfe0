"""One training step of another program at a recipe's shape, timed; prints one JSON object.

Run by `step.py` and `gpu/check.py`, each call in a process of its own so that memory is its own:

    python benchmarks/peers.py transformers tinystories-30m --batch 32 --precision bf16 --compile
    python benchmarks/peers.py nanogpt tinystories-30m --batch 32 --checkout ../nanoGPT
    python benchmarks/peers.py litgpt tinystories-30m --batch 32 --precision bf16 --compile

The batch is random tokens; a step is forward, backward, clipping to norm 1 and AdamW, as the
program's own training script has it. `--shape` takes the shape as JSON where Linnet is not
installed (litgpt's environment); `--print-shape` prints it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


def shape_of(recipe: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The stock configuration and sequence length of a recipe."""
    from linnet.model.stock_config import stock_config
    from linnet.recipe import load_recipe

    chosen = load_recipe(recipe, list(overrides))
    config = stock_config(chosen.model.model_copy(update={"scale_embeddings": False}), eos_id=0)
    config |= {name: 0.0 for name in config if name.endswith(("pdrop", "dropout"))}
    return {"config": config, "sequence_length": chosen.pretrain.data.sequence_length}


def transformers_model(shape: dict[str, Any], device: str) -> tuple[torch.nn.Module, Any]:
    """A stock transformers model with SDPA; its own loss from labels."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = dict(shape["config"])
    config.pop("dtype")
    chosen = AutoConfig.for_model(config.pop("model_type"), **config)
    model = AutoModelForCausalLM.from_config(chosen, attn_implementation="sdpa").to(device)
    return model, lambda model, x, y: model(input_ids=x, labels=y, use_cache=False).loss


def nanogpt_model(shape: dict[str, Any], device: str, checkout: str) -> tuple[torch.nn.Module, Any]:
    """nanoGPT's GPT from a checkout; only a GPT-2's shape can be had."""
    sys.path.insert(0, checkout)
    from model import GPT, GPTConfig

    config = shape["config"]
    if config["model_type"] != "gpt2":
        raise SystemExit("nanoGPT has only GPT-2's shape")
    with contextlib.redirect_stdout(sys.stderr):
        model = GPT(
            GPTConfig(
                block_size=shape["sequence_length"],
                vocab_size=config["vocab_size"],
                n_layer=config["n_layer"],
                n_head=config["n_head"],
                n_embd=config["n_embd"],
                dropout=0.0,
                bias=True,
            )
        ).to(device)
    return model, lambda model, x, y: model(x, y)[1]


def litgpt_model(shape: dict[str, Any], device: str) -> tuple[torch.nn.Module, Any]:
    """litgpt's GPT at the recipe's shape: its own block, or GPT-2-like where the recipe is one."""
    from litgpt import GPT, Config

    c = shape["config"]
    if c["model_type"] == "gpt2":
        config = Config(
            block_size=shape["sequence_length"], padded_vocab_size=c["vocab_size"], n_layer=c["n_layer"],
            n_head=c["n_head"], n_embd=c["n_embd"], intermediate_size=c["n_inner"], bias=True,
            norm_class_name="LayerNorm", mlp_class_name="GptNeoxMLP", gelu_approximate="tanh",
            rotary_percentage=0.0, parallel_residual=False, lm_head_bias=False,
        )  # fmt: skip
    else:
        config = Config(
            block_size=shape["sequence_length"], padded_vocab_size=c["vocab_size"],
            n_layer=c["num_hidden_layers"], n_head=c["num_attention_heads"],
            n_query_groups=c["num_key_value_heads"], n_embd=c["hidden_size"],
            intermediate_size=c["intermediate_size"], bias=False, norm_class_name="RMSNorm",
            mlp_class_name="LLaMAMLP", rotary_percentage=1.0, parallel_residual=False,
        )  # fmt: skip
    model = GPT(config).to(device)
    if c["tie_word_embeddings"]:
        model.lm_head.weight = model.transformer.wte.weight

    def loss(model, x, y):  # type: ignore[no-untyped-def]
        from litgpt.utils import chunked_cross_entropy

        return chunked_cross_entropy(model(x), y)

    return model, loss


def optimizer_of(peer: str, model: torch.nn.Module, device: str) -> torch.optim.Optimizer:
    """nanoGPT's own; elsewhere torch's AdamW, fused."""
    if peer == "nanogpt":
        with contextlib.redirect_stdout(sys.stderr):
            return model.configure_optimizers(0.1, 3e-4, (0.9, 0.95), device)
    return torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time `--steps` steps after `--warmup`."""
    shape = json.loads(args.shape) if args.shape else shape_of(args.recipe)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    if args.peer == "nanogpt":
        model, loss_of = nanogpt_model(shape, device, args.checkout)
    elif args.peer == "litgpt":
        model, loss_of = litgpt_model(shape, device)
    else:
        model, loss_of = transformers_model(shape, device)
    model.train()
    optimizer = optimizer_of(args.peer, model, device)
    run = torch.compile(model) if args.compile else model
    half = args.precision == "bf16"
    cast = torch.autocast(device, torch.bfloat16) if half else contextlib.nullcontext()
    length, vocabulary = shape["sequence_length"], shape["config"]["vocab_size"]
    times = []
    for _ in range(args.warmup + args.steps):
        tokens = torch.randint(1, vocabulary, (args.batch, length + 1), device=device)
        began = time.perf_counter()
        for rows in tokens.split(args.micro or args.batch):
            x, y = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
            if args.peer == "transformers":
                y = x  # transformers shifts by itself
            with cast:
                loss = loss_of(run, x, y) / (args.batch // (args.micro or args.batch))
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    best = min(times[args.warmup :])
    return {
        "peer": args.peer,
        "recipe": args.recipe,
        "precision": args.precision,
        "compiled": args.compile,
        "batch": args.batch,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens_per_second": args.batch * length / best,
        "peak_memory_bytes": _peak(device),
        "torch": torch.__version__,
    }


def _peak(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peer", choices=("transformers", "nanogpt", "litgpt"))
    parser.add_argument("recipe")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--micro", type=int, default=0)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--checkout", default="nanoGPT", help="nanoGPT's folder")
    parser.add_argument("--shape", default="", help="the shape as JSON")
    parser.add_argument("--print-shape", action="store_true")
    args = parser.parse_args()
    print(json.dumps(shape_of(args.recipe) if args.print_shape else measure(args)))


if __name__ == "__main__":
    main()
