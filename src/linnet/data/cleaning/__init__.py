"""What is done to documents before they become tokens: filters, normal form and length, duplicates.

Each of the three stands alone and is cheap to leave out; a build calls them in this order.
"""

from linnet.data.cleaning.cleaner import Cleaner
from linnet.data.cleaning.duplicates import Deduplicator
from linnet.data.cleaning.expression import Filter
from linnet.data.cleaning.minhash import signature

__all__ = ["Cleaner", "Deduplicator", "Filter", "signature"]
