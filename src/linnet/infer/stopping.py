"""Text as it may be shown: nothing of a stop string ever gets out.

A stop string may begin in one token and end in another, so text that could still become one is held
back until it cannot. What is shown does not depend on how the text was cut into pieces: the stop
string that is complete first ends it, as if characters had come one by one.
"""

from __future__ import annotations


class StopMatcher:
    """Lets text through until one of `stops` is complete."""

    def __init__(self, stops: list[str]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """What may be shown now that `text` has come."""
        if not self._stops or self.stopped:
            return "" if self.stopped else text
        self._held += text
        start = _first_complete(self._held, self._stops)
        self.stopped = start is not None
        if start is None:
            start = len(self._held) - _could_begin(self._held, self._stops)
        shown, self._held = self._held[:start], self._held[start:]
        return shown

    def finish(self) -> str:
        """What was held back, now that nothing more comes; nothing after a stop."""
        shown, self._held = "" if self.stopped else self._held, ""
        return shown


def _first_complete(text: str, stops: list[str]) -> int | None:
    """Where the stop string begins that ends first (the longest of those); None when there is none."""
    ends = [(place + len(stop), place) for stop in stops if (place := text.find(stop)) >= 0]
    return min(ends)[1] if ends else None


def _could_begin(text: str, stops: list[str]) -> int:
    """Length of the longest end of `text` that is the beginning of a stop string."""
    longest = max(len(stop) for stop in stops) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0
