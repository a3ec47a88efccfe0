"""The one loop, the engines it runs on, and what it saves."""

from linnet.train.checkpoint import Checkpoint, open_checkpoint, verify
from linnet.train.checkpoints import CheckpointFolder
from linnet.train.meter import Meter
from linnet.train.settings import TrainSettings
from linnet.train.trainer import Outcome, Progress, Trainer

__all__ = [
    "Checkpoint",
    "CheckpointFolder",
    "Meter",
    "Outcome",
    "Progress",
    "TrainSettings",
    "Trainer",
    "open_checkpoint",
    "verify",
]
