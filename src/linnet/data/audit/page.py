"""An audit as one page that opens anywhere: no script, nothing from the network, light or dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from linnet.data.audit.pictures import pictures
from linnet.data.audit.rules import limit, percent
from linnet.observe import counted

_STYLE = """
:root { color-scheme: light dark; --ink: #22303c; --ground: #ffffff; --soft: #f4f6f8; --grid: #e4e8ec;
  --faint: #8b97a3; --good: #1d7a50; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #dfe6ec; --ground: #14191e; --soft: #1d242b;
  --grid: #303a43; --faint: #93a0ac; --good: #5cc795; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem clamp(0.8rem, 3vw, 2rem) 3rem; color: var(--ink);
  background: var(--ground); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.5rem; margin: 0.5rem 0 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 0.4rem; }
p { margin: 0.4rem 0; max-width: 46rem; }
.verdict { font-size: 1.15rem; font-weight: 600; padding: 0.6rem 0.9rem; margin: 0.8rem 0;
  border-left: 0.35rem solid; background: var(--soft); }
.good { color: var(--good); } .bad { color: var(--bad); } .faint { color: var(--faint); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; margin: 0.5rem 0; min-width: 20rem; }
th, td { text-align: left; padding: 0.28rem 1rem 0.28rem 0; border-bottom: 1px solid var(--grid);
  vertical-align: top; }
th { font-weight: 600; color: var(--faint); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
th { vertical-align: bottom; max-width: 8rem; }
td.text { max-width: 30rem; overflow-wrap: break-word; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
  gap: 1.2rem 2rem; align-items: start; }
figure { margin: 0; } figcaption { font-size: 0.95rem; font-weight: 600; margin-bottom: 0.2rem; }
svg { width: 100%; max-width: 36rem; height: auto; display: block; }
svg text { fill: currentColor; }
code { font-size: 0.9em; }
"""

_CAPTIONS = {
    "mixture": "The mixture: asked and served",
    "passes": "How often each source is passed",
    "lengths": "Documents by length",
    "ranks": "Tokens by rank",
    "bytes": "Bytes in a token",
    "contamination": "Evaluation items found in training",
}


def page(facts: dict[str, Any]) -> str:
    """The page of what `audit` found."""
    drawn = pictures(facts)
    figures = "".join(
        f"<figure><figcaption>{_CAPTIONS[name]}</figcaption>{svg}</figure>" for name, svg in drawn.items()
    )
    title = f"Data audit of {facts['recipe']}"
    body = "".join((
        f"<h1>{escape(title)}</h1>", _verdict(facts), _rules(facts["rules"]),
        f'<h2>Pictures</h2><div class="pictures">{figures}</div>',
        _sources(facts), _mixture(facts["mixture"]), _duplicates(facts), _sequences(facts["sequences"]),
        _validation(facts["validation"]), _evaluation(facts["evaluation"]), _tokens(facts["tokens"]),
    ))  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _verdict(facts: dict[str, Any]) -> str:
    broken = [rule for rule in facts["rules"] if not rule["passed"]]
    if broken:
        word = "rule is" if len(broken) == 1 else "rules are"
        said = f"{len(broken)} {word} broken: {', '.join(rule['label'] for rule in broken)}"
    else:
        said = "Passed: every rule of the recipe holds"
    data, documents = facts["data"], facts["documents"]
    summary = (
        f"{counted(facts['tokens']['total'])} tokens in {documents['documents']:,} documents of "
        f"{len(facts['sources'])} sources, tokenizer {data['tokenizer']}; "
        f"{facts['sequences']['samples']:,} samples of {data['sequence_length']:,} tokens read by "
        f"{len(facts['sequences']['readers'])} kinds of reader"
    )
    kind = "bad" if broken else "good"
    return f'<p class="verdict {kind}">{escape(said)}</p><p>{escape(summary)}.</p>'


def _rules(rules: list[dict[str, Any]]) -> str:
    rows = [
        (
            _Html('<b class="good">holds</b>' if rule["passed"] else '<b class="bad">broken</b>'),
            rule["label"], percent(rule["found"]), limit(rule["asked"]),
            _Html(f"<code>{escape(rule['name'])}</code>"),
        )
        for rule in rules
    ]  # fmt: skip
    broken = [rule for rule in rules if not rule["passed"]]
    mends = "".join(
        f"<li><b>{escape(rule['label'])}:</b> {escape(rule['mend'])}.</li>" for rule in broken or rules
    )
    how = f"<ul>{mends}</ul>"
    if broken:
        how = f"<p><b>What to do</b></p>{how}"
    else:
        how = f"<details><summary>What to do if one were broken</summary>{how}</details>"
    return "<h2>Rules</h2>" + _table(("", "", "found", "asked", "rule"), rows, numbers=(2, 3)) + how


def _sources(facts: dict[str, Any]) -> str:
    rows, cleaned = [], []
    for row in facts["sources"]:
        lengths = row["lengths"]
        title = row["source"] + ("" if row["complete"] else " (its beginning)")
        rows.append((
            row["domain"], title, counted(row["tokens"]), f"{row['documents']:,}", f"{row['bytes_per_token']:.2f}",
            f"{lengths['median']:,}", f"{lengths['longest']:,}", percent(lengths["longer_than_sequence_share"]),
            percent(row["cut_share"]), percent(row["unknown_or_byte_share"]),
        ))  # fmt: skip
        cleaned.append((row["domain"], title, _lost(row["left_out"]), f"{row['replacement_characters']:,}"))
    head = ("domain", "source", "tokens", "documents", "bytes a token", "median length", "longest",
            "longer than a sequence", "cut by a border", "unknown or byte tokens")  # fmt: skip
    packing = facts["packing"]
    note = (
        f"A sequence holds {packing['documents_per_sequence']:.2f} documents or parts of them; "
        f"{percent(packing['padding_share'])} of the places are padding; "
        f"{percent(packing['cut_share'])} of all documents lie in more than one sequence."
    )
    lost = ("domain", "source", "left out when cleaning", "lost characters (U+FFFD) in what is left")
    return (
        f"<h2>Sources</h2>{_table(head, rows, numbers=range(2, 10))}<p>{note}</p>"
        f"{_table(lost, cleaned, numbers=(3,))}"
    )


def _lost(left_out: dict[str, int] | None) -> str:
    if left_out is None:
        return "not counted"
    some = [
        f"{count:,} {name.replace('_', ' ')}" for name, count in left_out.items() if count and name != "rows"
    ]
    return f"{', '.join(some) or 'nothing'} of {left_out['rows']:,} rows"


def _mixture(mixture: dict[str, Any]) -> str:
    rows = [
        (
            row["domain"], row["source"], percent(row["asked"]), percent(row["served"]), f"{row['samples']:,}",
            counted(row["tokens"]), f"{row['documents']:,}",
            "unknown" if row["passes"] is None else f"{row['passes']:.3g}", row["at_the_end"],
        )
        for row in mixture["sources"]
    ]  # fmt: skip
    head = ("domain", "source", "asked", "served", "samples", "tokens read", "documents read",
            "passes by the end", "then it")  # fmt: skip
    changes = "".join(
        f"<p>From sample {change['sample']:,} on: "
        + escape(", ".join(f"{name} {percent(weight)}" for name, weight in change["weights"].items()))
        + "</p>"
        for change in mixture["changes"]
    )
    note = (
        f"Largest error of a source's share in any of {mixture['blocks']:,} blocks of the first "
        f"{mixture['samples']:,} samples: {percent(mixture['largest_error'])}."
    )
    return f"<h2>Mixture</h2>{_table(head, rows, numbers=range(2, 8))}<p>{note}</p>{changes}"


def _duplicates(facts: dict[str, Any]) -> str:
    documents = facts["documents"]
    said = (
        f"<p>{documents['duplicates']:,} of {documents['documents']:,} documents ({percent(documents['share'])}) "
        f"came before, word for word; they hold {percent(documents['token_share'])} of the tokens.</p>"
    )
    within = [
        (row["domain"], row["source"], f"{row['duplicates']:,}", percent(row["share"]))
        for row in documents["within"] if row["duplicates"]
    ]  # fmt: skip
    across = [(*row["sources"], f"{row['documents']:,}") for row in documents["across"]]
    repeated = [
        (f"{row['copies']:,}", f"{row['tokens']:,}", row["source"], row["excerpt"])
        for row in documents["most_repeated"]
    ]
    return (
        f"<h2>Duplicate documents</h2>{said}"
        + _table(("domain", "source", "duplicates within", "share"), within, numbers=(2, 3))
        + _table(("one source", "another", "documents that both have"), across, numbers=(2,))
        + _table(("copies", "tokens", "source", "begins"), repeated, numbers=(0, 1))
    )


def _sequences(sequences: dict[str, Any]) -> str:
    rows = [
        (row["workers"], row["ranks"], f"{row['samples']:,}", f"{row['different']:,}", f"{row['repeated']:,}")
        for row in sequences["readers"]
    ]
    head = ("workers", "ranks", "samples", "differ from the first reader", "repeated within an epoch")
    examples = [
        (f"{row['samples'][0]:,} and {row['samples'][1]:,}", row["source"],
         " and ".join(f"{window:,}" for window in row["windows"]))
        for row in sequences["examples"]
    ]  # fmt: skip
    note = ""
    if examples:
        note = f"<p>{sequences['same_place']:,} of the repeated samples are the same place of the text again.</p>"
    return (
        "<h2>Sequences</h2>"
        + _table(head, rows, numbers=range(5))
        + note
        + _table(("samples", "source", "windows"), examples)
    )


def _validation(validation: dict[str, Any]) -> str:
    near = {row["set"]: row for row in validation["near"]}
    rows = [
        (row["domain"], f"{row['documents']:,}", counted(row["tokens"]), f"{row['in_training']:,}",
         percent(near[row["domain"]]["share"]), percent(near[row["domain"]]["covered"]))
        for row in validation["domains"]
    ]  # fmt: skip
    head = ("domain", "held-out documents", "tokens", "of them in training", "share a run of words with training",
            "of these documents' runs")  # fmt: skip
    examples = [(row["domain"], row["source"], row["excerpt"]) for row in validation["examples"]]
    close = [
        (one["set"], f"{row['found']:,} of {row['of']:,}", row["source"], row["begins"], row["words"])
        for one in validation["near"]
        for row in one["examples"]
    ]
    return (
        "<h2>Validation</h2>"
        + _table(head, rows, numbers=range(1, 6))
        + _table(("domain", "also in", "begins"), examples)
        + "<p>The last two columns are no rule: they look at the first held-out documents of a domain, and common "
        "phrases, licences and quotations count. A document of which most runs stand in training is a near "
        "duplicate; these come closest:</p>"
        + _table(
            ("domain", "runs found", "near to one of", "which begins", "first shared run"),
            close,
            numbers=(1,),
        )
    )


def _evaluation(evaluation: dict[str, Any]) -> str:
    if not evaluation["sets"]:
        return (
            "<h2>Evaluation sets</h2><p>None were named. <code>data.audit.evaluation_sets</code> takes the files "
            "that the model will be judged by.</p>"
        )
    rows = [
        (row["set"], f"{row['items']:,}", f"{row['contaminated']:,}", percent(row["share"]),
         percent(row["covered"]), f"{row['too_short']:,}")
        for row in evaluation["sets"]
    ]  # fmt: skip
    head = ("set", "items", "found in training", "share", "of a found item's runs", "too short to be found")
    examples = [
        (one["set"], f"{row['item']:,}", f"{row['found']:,} of {row['of']:,}",
         f"{row['source']}, document {row['document']:,}", row["begins"], row["words"])
        for one in evaluation["sets"] for row in one["examples"]
    ]  # fmt: skip
    return (
        f"<h2>Evaluation sets</h2><p>An item is found when a training document shares a run of "
        f"{evaluation['ngram']} words with it, whatever their case and punctuation.</p>"
        + _table(head, rows, numbers=range(1, 6))
        + _table(
            ("set", "item", "runs found", "first found in", "which begins", "first shared run"),
            examples,
            numbers=(1, 2),
        )
    )


def _tokens(tokens: dict[str, Any]) -> str:
    note = (
        f"<p>{percent(tokens['never_used_share'])} of the vocabulary ({tokens['never_used']:,} of "
        f"{tokens['vocabulary']:,}) never occurs. {tokens['unknown']:,} tokens are unknown, {tokens['byte']:,} are "
        f"bytes of a character.</p>"
    )
    rows = [
        (
            row["id"],
            _Html(f"<code>{escape(repr(row['text']))}</code>"),
            f"{row['count']:,}",
            percent(row["share"]),
        )
        for row in tokens["commonest"]
    ]
    head = ("id", "token", "times", "share")
    return f"<h2>Tokens</h2>{note}<p>The commonest:</p>{_table(head, rows, numbers=(0, 2, 3))}"


class _Html(str):
    """Text that is markup already."""


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[int] = ()) -> str:
    """A table, or nothing when there are no rows; columns of numbers stand to the right."""

    def cell(tag: str, column: int, value: Any) -> str:
        kind = "number" if column in numbers else "text"
        text = value if isinstance(value, _Html) else escape(str(value))
        return f'<{tag} class="{kind}">{text}</{tag}>'

    lines = [
        "<tr>" + "".join(cell("td", column, value) for column, value in enumerate(row)) + "</tr>"
        for row in rows
    ]
    if not lines:
        return ""
    top = "".join(cell("th", column, name) for column, name in enumerate(head))
    return f'<div class="scroll"><table><tr>{top}</tr>{"".join(lines)}</table></div>'
