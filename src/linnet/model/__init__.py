"""The network, its stock-architecture conversion, and what it costs."""

from linnet.model.cache import KVCache
from linnet.model.count import ParameterCount, count_parameters, flops_per_token
from linnet.model.initialize import initialize
from linnet.model.spec import ModelSpec, check_sequence
from linnet.model.stock import load_model, read_spec, save_model
from linnet.model.transformer import Transformer

__all__ = [
    "KVCache",
    "ModelSpec",
    "ParameterCount",
    "Transformer",
    "check_sequence",
    "count_parameters",
    "flops_per_token",
    "initialize",
    "load_model",
    "read_spec",
    "save_model",
]
