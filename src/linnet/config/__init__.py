"""What every section of a recipe is made of, and how a bad request is told."""

from linnet.config.errors import LinnetError, RequestError, RunError, one_line
from linnet.config.layers import Layers, from_file, from_overrides, from_text
from linnet.config.quantities import Length, LengthField, parse_length, share_of
from linnet.config.section import Section, validate

__all__ = [
    "Layers",
    "Length",
    "LengthField",
    "LinnetError",
    "RequestError",
    "RunError",
    "Section",
    "from_file",
    "from_overrides",
    "from_text",
    "one_line",
    "parse_length",
    "share_of",
    "validate",
]
