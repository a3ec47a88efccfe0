"""What is minimised."""

from linnet.objectives.next_token import NextToken
from linnet.objectives.objective import Loss, Objective, Plain

__all__ = ["Loss", "NextToken", "Objective", "Plain"]
