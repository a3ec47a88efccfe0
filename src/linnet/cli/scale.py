"""What `linnet data build` does besides building here: one part of many, and copies of the finished stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from linnet.cli.progress import BuildLine

if TYPE_CHECKING:
    from linnet.data.parts import PartDone
    from linnet.data.shards.sending import Destination
    from linnet.recipe import Recipe
    from linnet.recipe.documents import DocumentWork


def part_facts(recipe: Recipe, word: str) -> dict[str, Any]:
    """Make a part of a recipe's pieces; what came of it, for programs."""
    from linnet.data.parts import Part
    from linnet.recipe import build_recipe_part

    part = Part.of(word)
    with BuildLine() as line:
        done = build_recipe_part(recipe, part, line)
    return {
        "part": part.number, "parts": part.count, "pieces": done.pieces, "made": done.made,
        "left": done.left, "left_by_source": done.missing, "notes": _notes(done),
    }  # fmt: skip


def _notes(done: PartDone) -> list[str]:
    from linnet.data.shards.build import PIECE_BYTES

    if not done.missing:
        return ["no source is built beforehand, so there is nothing to do in parts"]
    first, last = done.pieces + 1, done.part.count
    if first > last:
        return []
    idle = f"part {last} has" if first == last else f"parts {first} to {last} have"
    return [
        f"{_number_of(done.pieces, 'piece')} in all, so {idle} nothing to do: a piece is {PIECE_BYTES >> 20} MiB "
        "of files, or one larger file; a source with a limit of documents, or deduplication, is one piece"
    ]


def _number_of(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def part_lines(facts: dict[str, Any], recipe: str) -> str:
    """The same for people."""
    pieces = _number_of(facts["pieces"], "piece")
    made = f"made {facts['made']} of {pieces}" if facts["part"] else f"all that {pieces} need is there"
    lines = [f"part {facts['part']} of {facts['parts']}: {made}", *facts["notes"]]
    lines += [f"  {title}: {count} left" for title, count in facts["left_by_source"].items() if count]
    if facts["left"]:
        others = "the other parts" if facts["part"] else "the parts"
        return "\n".join([*lines, f"{_number_of(facts['left'], 'piece')} left to {others}"])
    return "\n".join([*lines, f"every piece is there; linnet data build {recipe} puts them together"])


def destination(recipe: Recipe, out: str) -> Destination:
    """Where stores are to be copied; what cannot be done is refused before anything is built."""
    from linnet.data.shards.sending import Destination, check_request
    from linnet.recipe import document_stage

    check_request(document_stage(recipe).data)
    return Destination(out, 60 * document_stage(recipe).data.retry_minutes)


def send_stores(ready: DocumentWork, to: Destination) -> list[dict[str, Any]]:
    """Copy a recipe's stores, and the tokenizer where it was trained on them."""
    from linnet.data.shards.sending import send, send_tokenizer
    from linnet.text.settings import TRAINED

    stores = {store.train.spans[0].label: store for store in ready.corpus.stores}
    with BuildLine() as line:
        sent = send(stores, to, line)
        if ready.recipe.tokenizer and ready.recipe.tokenizer.name == TRAINED:
            sent.append(send_tokenizer(ready.tokenizer, to))
    return [vars(one) for one in sent]
