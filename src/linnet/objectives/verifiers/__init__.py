"""Rewards that can be checked: what a verifier is, and how to write one.

A verifier has TRL's signature of a reward function:

    f(completions, **columns) -> list[float | None]

`completions` are strings, or for conversational data lists of messages. `columns` are those of the data set
(`answer`, `tests`, whatever there is), one value a completion, and `prompts`. One reward comes back for each
completion; None says that the verifier does not apply to it.

A recipe names one by a word, or by a section (`VerifierSettings`) with `weight` and limits:

| kind | gives 1 when |
| --- | --- |
| `math` | the answer equals the expected one: numbers here, everything else by sympy in another process |
| `numeric` | the answer is the expected number; nothing but the fast reading of numbers |
| `exact` | the answer is the expected text |
| `regex:PATTERN` | the pattern is found in the completion |
| `format:think,answer` | the completion is these tags in order; `format:boxed`: it has a box |
| `code` | the completion's program passes its row's tests, in a sandbox |
| `python:path/to/file.py:function` | whatever a function of the user's own says, with any reward |
| `model:PATH` | a model says yes (its probability), or the value of a reward model's head |

Which part of a completion is its answer: `answers`. What equal means: `equality`. What the sandbox holds back
and what it does not: `sandbox` and `code_tests`. How a model judges: `model_judge`. `score` runs several over a
batch, with a deadline.
"""

from linnet.objectives.verifiers.answers import Answer, final_answer
from linnet.objectives.verifiers.math_judge import fast_verdict
from linnet.objectives.verifiers.parallel import Budget
from linnet.objectives.verifiers.scoring import Scores, score
from linnet.objectives.verifiers.settings import VerifierSettings, VerifiersField
from linnet.objectives.verifiers.verifier import Verifier, resolve

__all__ = [
    "Answer",
    "Budget",
    "Scores",
    "Verifier",
    "VerifierSettings",
    "VerifiersField",
    "fast_verdict",
    "final_answer",
    "resolve",
    "score",
]
