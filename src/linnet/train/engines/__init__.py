"""Where and in what precision a model is trained."""

from linnet.train.engines.engine import Engine, StopRequested, Terms, Update, stop_where
from linnet.train.engines.local import LocalEngine

__all__ = ["Engine", "LocalEngine", "StopRequested", "Terms", "Update", "stop_where"]
