"""Programs that verifiers run in processes of their own.

They are started by their path, without the package, so that a verdict costs milliseconds and not an import
of torch, and so that nothing of the training program is in the process that runs a completion's code. They
use the standard library alone (`math_judge` also math-verify) and their neighbours in this folder.
"""
