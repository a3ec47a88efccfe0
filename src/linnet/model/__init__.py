"""The network, its stock-architecture conversion, and what it costs."""

from linnet.model.cache import KVCache
from linnet.model.count import ParameterCount, count_parameters, flops_per_token, score_flops
from linnet.model.initialize import initialize
from linnet.model.lora_folder import load_adapter, save_adapter
from linnet.model.lora_settings import LoraSettings
from linnet.model.spec import ModelSpec, check_sequence
from linnet.model.stock import check_weights, load_model, read_spec, save_model
from linnet.model.transformer import Transformer

__all__ = [
    "KVCache",
    "LoraSettings",
    "ModelSpec",
    "ParameterCount",
    "Transformer",
    "check_sequence",
    "check_weights",
    "count_parameters",
    "flops_per_token",
    "initialize",
    "load_adapter",
    "load_model",
    "read_spec",
    "save_adapter",
    "save_model",
    "score_flops",
]
