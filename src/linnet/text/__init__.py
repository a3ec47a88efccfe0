"""Tokenizers: text to ids and back, from any common vocabulary file, and training one's own."""

from linnet.text.decoding import StreamDecoder
from linnet.text.resolve import load_tokenizer
from linnet.text.settings import TokenizerSettings
from linnet.text.tokenizer import Tokenizer
from linnet.text.train import train_tokenizer

__all__ = ["StreamDecoder", "Tokenizer", "TokenizerSettings", "load_tokenizer", "train_tokenizer"]
