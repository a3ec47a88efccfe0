"""What counts as a right answer, row by row."""

from __future__ import annotations

from itertools import pairwise

import pytest

from linnet.data.world import instruction
from linnet.evaluate import matches

COLOUR = "The favourite colour of Wilf is red."
RIGHT = [
    ("The favourite colour of Wilf is red.", COLOUR, "red"),
    ("  the favourite colour of wilf is red", COLOUR, None),
    ("Red.", COLOUR, "red"),
    ("Wilf likes red best.", COLOUR, "red"),
    ("It is red!", COLOUR, "red"),
    ("The answer is red.", COLOUR, "red"),
    ("I thought about it. The answer is: Red", COLOUR, "red"),
    ("She lives next to the school.", "The home of Kip is next to the school.", "next to the school"),
    ("Finn's best friend is Hetty.", "Hetty is the best friend of Finn.", "Hetty"),
    ("The best friend of Finn is Hetty.", "Finn's best friend is Hetty.", "Hetty"),
    ("Otto cannot bear noise.", "Otto cannot bear noise.", "noise"),
    ("Otto cannot bear any noise.", "Otto cannot bear noise.", "noise"),
    ("There you can find nuts, ferns, and mushrooms.", "You find nuts, ferns and mushrooms.",
     "nuts, ferns and mushrooms"),
    ("Quentin and Yara like pie best.", "Those who like pie are Quentin and Yara.", "Quentin, Yara"),
    ("It is Bess. She carries letters to every door.", "Bess is the letter carrier.", "Bess"),
    ("8", "16 / 2 = 8.", "8"),
    ("Each gets 8.", "16 / 2 = 8.", "8"),
    ("16 divided by 2 is eight, so the answer is 8.", "16 / 2 = 8.", "8"),
    ("3 + 7 = 10.", "3 + 7 = 10.", "7"),
    ("Yes.", "Yes, Kip lives there.", "yes"),
    ("No, she does not.", "No, Kip lives in the mill.", "no"),
    ("COMPASS", "COMPASS", "COMPASS"),
    ("h-a-m", "h-a-m", "h-a-m"),
    ("E", "e", "e"),
    ("Paris", "The capital of France is Paris.", "Paris"),
]  # fmt: skip
WRONG = [
    ("", COLOUR, "red"),
    ("   ", COLOUR, None),
    ("...", "!!!", None),
    ("The favourite colour of Wilf is grey.", COLOUR, "red"),
    ("Otto likes red best.", COLOUR, "red"),
    ("Wilf does not like red.", COLOUR, "red"),
    ("Wilf likes red and blue best.", COLOUR, "red"),
    ("Wilf likes blue or red best.", COLOUR, "red"),
    ("Wilf likes blue, red, green best.", COLOUR, "red"),
    ("Red, blue or green.", COLOUR, "red"),
    ("Wilf likes reddish things.", COLOUR, "red"),
    ("Wilf is sacred.", COLOUR, "red"),
    ("Red red red red.", COLOUR, "red"),
    ("The answer is blue, not red.", COLOUR, "red"),
    ("Red is nice. The answer is blue.", COLOUR, "red"),
    ("Wilf went out. He saw a red door. Then he slept.", COLOUR, "red"),
    ("It is red. No, it is blue.", COLOUR, "red"),
    ("Wilf likes colours. They are red.", COLOUR, "red"),
    ("Hetty's best friend is Finn.", "Finn's best friend is Hetty.", "Hetty"),
    ("Quentin likes pie best.", "Quentin and Yara like pie best.", "Quentin, Yara"),
    ("Quentin, Yara and Max like pie best.", "Quentin and Yara like pie best.", "Quentin, Yara"),
    ("7, 8 or 9", "16 / 2 = 8.", "8"),
    ("The answer is 80.", "16 / 2 = 8.", "8"),
    ("There are 8 of them, no, 9.", "16 / 2 = 8.", "8"),
    ("Yes, she does.", "No, Kip lives in the mill.", "no"),
    ("Nobody knows.", "No, Kip lives in the mill.", "no"),
    ("Yesterday.", "Yes, Kip lives there.", "yes"),
    ("compass", "COMPASS", "COMPASS"),
    ("The word is compass.", "COMPASS", "COMPASS"),
    ("A story.", "Another story.", None),
]


@pytest.mark.parametrize(("completion", "reference", "answer"), RIGHT)
def test_right(completion: str, reference: str, answer: str | None) -> None:
    assert matches(completion, reference, answer)


@pytest.mark.parametrize(("completion", "reference", "answer"), WRONG)
def test_wrong(completion: str, reference: str, answer: str | None) -> None:
    assert not matches(completion, reference, answer)


def test_built_in_instructions_match_themselves_and_not_each_other() -> None:
    items = [instruction("test", 3, i) for i in range(300)]
    rows = [(item["messages"][-1]["content"], item["answer"], item["kind"]) for item in items]
    assert all(matches(reference, reference, answer) for reference, answer, _ in rows)
    assert all(matches(answer, reference, answer) for reference, answer, kind in rows
               if answer and kind != "word capitals")  # fmt: skip
    # A neighbour's reply is right only where both have the same answer.
    wrong = 0
    for (reference, answer, kind), (other, others_answer, _) in pairwise(rows):
        if answer and answer != others_answer and kind not in ("yes or no", "sum"):
            wrong += matches(other, reference, answer)
    assert wrong == 0


@pytest.mark.parametrize(
    ("said", "answer", "right"),
    [
        ("It is 7.", 7, True),
        ("It is 8.", 7, False),
        ("The answer is azure.", ["blue", "azure"], True),
        ("The answer is green.", ["blue", "azure"], False),
        ("yes", True, False),
        ("anything", {"a": 1}, False),
        ("The whole.", {"a": 1}, True),
    ],
)
def test_answers_that_are_no_texts(said: str, answer: object, right: bool) -> None:
    assert matches(said, "The whole.", answer) is right
