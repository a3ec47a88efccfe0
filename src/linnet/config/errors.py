"""The two ways a request can end badly, each told in one line.

Errors are raised where the mistake is known. The command line prints the one
line and chooses the exit code; no other room knows about exit codes.
"""

from __future__ import annotations


class LinnetError(Exception):
    """Something went wrong that a person can act on. The text is one line: what, where, the mend.

    Args:
        what: what is wrong, without a trailing full stop.
        where: the place (a file and line, a recipe key, a folder); may be empty.
        mend: what to do about it; may be empty.
    """

    exit_code = 1

    def __init__(self, what: str, where: str = "", mend: str = "") -> None:
        self.what, self.where, self.mend = what, where, mend
        super().__init__(self.line())

    def line(self) -> str:
        """The error as one line of text."""
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.mend:
            text = f"{text}; {self.mend}"
        return " ".join(text.split())


class RequestError(LinnetError):
    """The request itself is wrong; nothing was touched (exit code 2)."""

    exit_code = 2


class RunError(LinnetError):
    """The request was right and the work failed; whatever was saved before is intact (exit code 1)."""


def one_line(error: Exception) -> str:
    """Any error in one line of text, for where a failure is reported and the work goes on."""
    if isinstance(error, LinnetError):
        return error.line()
    return " ".join(f"{type(error).__name__}: {error}".split())
