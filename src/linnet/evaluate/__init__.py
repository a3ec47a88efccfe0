"""What a model is worth: figures with intervals, the judge of refusals, what counts as a right answer.

A figure of a small suite moves by chance, so none is given without the interval that it lies in, and a fall
between two stages counts only when chance does not explain it.
"""

from linnet.evaluate.answers import matches
from linnet.evaluate.intervals import Rate, mean, perplexity, rate, worse
from linnet.evaluate.refusals import Verdict, judge, judge_accuracy

__all__ = ["Rate", "Verdict", "judge", "judge_accuracy", "matches", "mean", "perplexity", "rate", "worse"]
