"""What the recipe's rules ask, what was found, and what to do where the two do not meet."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from linnet.data.settings import AuditRules


@dataclass(frozen=True)
class Finding:
    """One rule. name: its key in the recipe. asked, found: shares; found None where nothing was looked for."""

    name: str
    label: str
    asked: float
    found: float | None
    mend: str

    @property
    def passed(self) -> bool:
        """Whether the rule holds."""
        return self.found is None or self.found <= self.asked

    def facts(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "passed": self.passed}


_MENDS = {
    "max_duplicate_sequences": (
        "where the table names the same place twice, samples are served twice: report it as a fault of Linnet; "
        "where places differ, the text itself repeats: build with cleaning.deduplicate=exact"
    ),
    "different_samples": (
        "some way of reading gives other samples than the rest: report it as a fault of Linnet, with audit.json"
    ),
    "max_duplicate_documents": (
        "build with cleaning.deduplicate=exact (or near), or leave out one of two sources that share documents"
    ),
    "max_validation_overlap": (
        "held-out documents stand in training: name them as validation_sources, whose documents are left out of "
        "training, or let Linnet hold out documents by their content with validation_fraction"
    ),
    "max_contaminated_items": (
        "leave the documents named in the table out of the sources (a source's filter can), and look at the "
        "shared words first: a quotation that everybody uses harms less than a question with its answer"
    ),
    "max_unknown_tokens": (
        "the tokenizer does not know this text: take one that was trained on such text, or look for a source in "
        "another script or a wrong encoding in the table of sources"
    ),
    "max_mixture_error": (
        "the sources do not come in the proportions of the recipe: report it as a fault of Linnet, with audit.json"
    ),
}


def findings(rules: AuditRules, facts: dict[str, Any]) -> list[Finding]:
    """Every rule against what was measured, in the order in which they are told."""
    sets = facts["evaluation"]["sets"]
    rows: list[tuple[str, str, float, float | None]] = [
        ("max_duplicate_sequences", "sequences repeated within an epoch", rules.max_duplicate_sequences,
         facts["sequences"]["share"]),
        ("different_samples", "samples that differ between readers", 0.0,
         facts["sequences"]["different"] / max(1, facts["sequences"]["samples"])),
        ("max_duplicate_documents", "documents that came before", rules.max_duplicate_documents,
         facts["documents"]["share"]),
        ("max_validation_overlap", "validation documents in training", rules.max_validation_overlap,
         facts["validation"]["share"]),
        ("max_contaminated_items", "evaluation items in training (worst set)", rules.max_contaminated_items,
         max((one["share"] for one in sets), default=None)),
        ("max_unknown_tokens", "unknown and byte tokens", rules.max_unknown_tokens,
         facts["tokens"]["unknown_or_byte_share"]),
        ("max_mixture_error", "largest error of a source's share", rules.max_mixture_error,
         facts["mixture"]["largest_error"]),
    ]  # fmt: skip
    return [Finding(name, label, asked, found, _MENDS[name]) for name, label, asked, found in rows]


def percent(share: float | None) -> str:
    """A share as people read it; what is not nothing never reads as nothing."""
    if share is None:
        return "not looked for"
    if 0 < share < 0.0001:
        return f"{100 * share:.1g}%"
    return f"{100 * share:.3g}%" if share < 0.1 or share == 1 else f"{100 * share:.1f}%"


def limit(share: float) -> str:
    """What a rule allows."""
    return "any" if share >= 1 else f"at most {percent(share)}"
