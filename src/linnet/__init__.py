"""Linnet trains small language models from raw text to a chat model you can ship."""

__version__ = "0.1.0"
