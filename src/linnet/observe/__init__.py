"""What a run says about itself, and where that goes: a file, a terminal, a picture."""

from linnet.observe.console import Console
from linnet.observe.curves import History, history
from linnet.observe.events import (
    Anomaly,
    Evaluated,
    Event,
    Observer,
    Observers,
    Resumed,
    RunEnded,
    RunStarted,
    Sampled,
    Saved,
    Scored,
    StepDone,
    from_record,
    to_record,
)
from linnet.observe.jsonl import EventLog, effective, read_events, read_records
from linnet.observe.overview import draw
from linnet.observe.series import counted, duration, smoothed, sparkline

__all__ = [
    "Anomaly",
    "Console",
    "Evaluated",
    "Event",
    "EventLog",
    "History",
    "Observer",
    "Observers",
    "Resumed",
    "RunEnded",
    "RunStarted",
    "Sampled",
    "Saved",
    "Scored",
    "StepDone",
    "counted",
    "draw",
    "duration",
    "effective",
    "from_record",
    "history",
    "read_events",
    "read_records",
    "smoothed",
    "sparkline",
    "to_record",
]
