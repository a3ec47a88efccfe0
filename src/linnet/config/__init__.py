"""What every section of a recipe is made of, and how a bad request is told."""

from linnet.config.errors import LinnetError, RequestError, RunError

__all__ = ["LinnetError", "RequestError", "RunError"]
