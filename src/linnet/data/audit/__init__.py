"""Looking at a stage's data before a run is spent on it: what is wrong, and what it looks like.

A run of days on repeated batches, or on the answers of the tests it is judged by, looks like any other
run until it is too late. So everything that can be wrong with data is measured here and held against
the recipe's rules (`data.audit`); `linnet data audit` writes it as a page and as JSON.
"""

from linnet.data.audit.auditing import FORMAT, KIND, AuditProgress, audit
from linnet.data.audit.page import page
from linnet.data.audit.rules import limit, percent

__all__ = ["FORMAT", "KIND", "AuditProgress", "audit", "limit", "page", "percent"]
