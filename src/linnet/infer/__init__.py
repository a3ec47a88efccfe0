"""Text from a model: batched sampling with a key and value cache, and finding the model to sample from."""

from linnet.infer.generator import Check, Completion, Generator, go_on
from linnet.infer.load import find_model, load_generator
from linnet.infer.sampling import SamplingSettings

__all__ = ["Check", "Completion", "Generator", "SamplingSettings", "find_model", "go_on", "load_generator"]
