"""Files that survive a kill or a power cut: written whole or not at all."""

from linnet.storage.durable import keep, sync_folder, write_durably

__all__ = ["keep", "sync_folder", "write_durably"]
