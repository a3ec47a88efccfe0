"""What is minimised."""

from linnet.objectives.next_token import NextToken
from linnet.objectives.objective import Objective

__all__ = ["NextToken", "Objective"]
