"""No field that transformers knows or reads is overlooked, and every default is the stock class's."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path

import pytest

from linnet.model.stock_fields import ALIASES, FIELDS, FOREIGN, NEUTRAL, NEUTRAL_ANYWHERE

transformers = pytest.importorskip("transformers")

# Fields that change no logits: they are for training, generation, classification or a description.
HARMLESS = {
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "chunk_size_feed_forward",
    "dtype",
    "embd_pdrop",
    "eos_token_id",
    "id2label",
    "initializer_range",
    "label2id",
    "max_window_layers",
    "output_hidden_states",
    "pad_token_id",
    "pretraining_tp",
    "problem_type",
    "reorder_and_upcast_attn",
    "return_dict",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "transformers_version",
    "use_cache",
    "layer_types",  # checked apart from the table
    "sliding_window",  # of a smollm3 and a qwen3: without use_sliding_window and layer_types it is nobody's
}


def known(family: str) -> set[str]:
    return {
        *FIELDS[family],
        *NEUTRAL[family],
        *NEUTRAL_ANYWHERE,
        *FOREIGN,
        *ALIASES.get(family, {}),
        *HARMLESS,
    }


@pytest.mark.parametrize("family", FIELDS)
def test_every_field_of_the_stock_class_has_its_group_and_its_default(family: str) -> None:
    stock = transformers.AutoConfig.for_model(family)
    fields = {field.name: field.default for field in dataclasses.fields(stock)}
    assert fields.keys() <= known(family)
    for name, (_, default) in FIELDS[family].items():
        if name in fields:
            assert fields[name] == default, name
        else:
            assert name in ("head_dim", "rope_theta", "rope_scaling"), name  # taken among other arguments
    if family != "gpt2":
        assert FIELDS[family]["rope_theta"][1] == stock.default_theta


# What the shared code asks of a configuration and is none of a model's function, or is one of its own properties.
PROPERTIES = {
    "_attn_implementation",
    "default_theta",
    "get_text_config",
    "ignore_keys_at_rope_validation",
    "is_heterogeneous",
    "original_max_position_embeddings",
    "standardize_rope_params",
    "to_dict",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "head_dim",
    "rope_parameters",
    "validate_rope",
    "number_of_conv_states",  # of layers that are refused
}


class Reads(ast.NodeVisitor):
    """Attributes that code reads of a name `config`, by dot or by getattr."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if not any(word in node.name for word in ("Classification", "DoubleHeads", "Question", "Summary")):
            self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if is_config(node.value):
            self.found.add(node.attr)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id == "getattr" and is_config(node.args[0]):
            name = node.args[1]
            self.found |= {str(name.value)} if isinstance(name, ast.Constant) else set()
        self.generic_visit(node)


def is_config(node: ast.expr) -> bool:
    named = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return named in ("config", "layer_config", "effective_config")


@pytest.mark.parametrize("family", FIELDS)
def test_every_field_that_the_stock_code_reads_has_its_group(family: str) -> None:
    folder = Path(inspect.getfile(transformers)).parent
    files = [
        f"models/{family}/modeling_{family}.py",
        "masking_utils.py",
        "cache_utils.py",
        "modeling_rope_utils.py",
    ]
    reads = Reads()
    for file in files:
        reads.visit(ast.parse((folder / file).read_text(encoding="utf-8")))
    assert {"vocab_size", "is_causal"} <= reads.found
    assert reads.found - known(family) - PROPERTIES == set()
