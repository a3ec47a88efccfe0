"""The built-in world: the same everywhere, split by content, grammatical, and true."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from linnet.config import RequestError
from linnet.data import world
from linnet.data.world import chat, facts, games, requests, stories, sums, talks
from linnet.data.world.draw import Draw, draw_in_split, split_of
from linnet.data.world.grammar import Scene, polish
from linnet.data.world.people import NAMES, PEOPLE
from linnet.data.world.phrases import MACROS
from linnet.data.world.places import FOODS, PLACES, THINGS

MAKERS: dict[str, Callable[[str, int, int], dict[str, Any]]] = {
    "document": world.document,
    "instruction": world.instruction,
    "preference": world.preference,
    "request": world.request,
    "problem": world.problem,
    "domain": world.domain_document,
}

# What the generator writes is promised for good: a run that is continued must meet the same text.
GOLDEN = "7cb6e5dca17315a5856689b92ba63d4cac91ad85a9d151d8e0fb9dccf8e50d7b"


@cache
def texts(split: str, count: int, seed: int = 0) -> tuple[tuple[str, str], ...]:
    return tuple((d["kind"], d["text"]) for d in (world.document(split, seed, i) for i in range(count)))


def answer_text(item: dict[str, Any]) -> str:
    return str(item["messages"][-1]["content"])


def digest() -> str:
    parts = [repr(MAKERS[name](split, 3, i)) for name in MAKERS for split in world.SPLITS for i in range(40)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


# Determinism


def test_every_item_has_the_same_bytes_as_ever() -> None:
    assert digest() == GOLDEN


def test_items_do_not_depend_on_the_hash_seed_or_on_what_was_asked_before() -> None:
    code = (
        "import hashlib; from linnet.data import world;"
        "print(hashlib.sha256(repr([f('test', 1, i) for i in (9, 3, 7) for f in (world.document,"
        "world.instruction, world.preference, world.request, world.problem, world.domain_document)])"
        ".encode()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "77")
    }
    order = [f("test", 1, i) for i in (9, 3, 7) for f in MAKERS.values()]
    assert seen == {hashlib.sha256(repr(order).encode()).hexdigest() + "\n"}


def test_the_stream_is_the_documents_in_order_and_starts_anywhere() -> None:
    stream = world.documents("train", 5, start=7)
    assert [next(stream) for _ in range(3)] == [world.document("train", 5, i) for i in (7, 8, 9)]


def test_another_seed_gives_other_documents() -> None:
    assert not set(texts("train", 500)) & set(texts("train", 500, seed=1))


# Splits


def test_an_unknown_split_is_refused_in_every_function() -> None:
    for make in MAKERS.values():
        with pytest.raises(RequestError, match="validation"):
            make("valid", 0, 0)
    with pytest.raises(RequestError):
        world.documents("dev")


def test_no_document_is_in_two_splits_or_twice_in_one() -> None:
    train = [text for _, text in texts("train", 20_000)]
    held = [text for split in ("validation", "test") for _, text in texts(split, 5_000)]
    assert len(set(train)) == len(train)
    assert len(set(held)) == len(held)
    assert not set(train) & set(held)


def test_a_held_out_story_is_a_cast_that_training_never_tells_whatever_the_seed() -> None:
    def keys(split: str) -> set[str]:
        found = set()
        for seed in range(3):
            for i in range(2_000):
                (_, hero, friend, _, thing), _ = draw_in_split(
                    split, ("story", split, seed, i), stories.propose
                )
                found.add(f"story|{hero}|{friend}|{thing}")
        return found

    train, validation, test = (keys(split) for split in world.SPLITS)
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert all(split_of(key) == "validation" for key in validation)


@pytest.mark.parametrize("seed", range(8))
def test_a_story_names_everyone_and_everything_that_decides_its_split(seed: int) -> None:
    for i in range(150):
        cast, beats = stories.story("train", seed, i)
        text = " ".join(beats)
        _, hero, friend, _, thing = cast
        assert all(name in text for name in (hero, friend, thing)), (cast, text)


def test_held_out_sums_stand_nowhere_in_training() -> None:
    pattern = re.compile(r"(\d+) \+ (\d+) = \d+")
    held = {tuple(sorted(pair)) for level in (1, 2, 3) for pair in sums.pool("add", level, "validation")}
    prose = " ".join(text for _, text in texts("train", 20_000))
    items = [answer_text(world.instruction("train", 0, i)) for i in range(4_000)]
    items += [str(world.problem("train", 0, i)["solution"]) for i in range(4_000)]
    shown = {tuple(sorted((int(a), int(b)))) for text in [prose, *items] for a, b in pattern.findall(text)}
    assert len(shown) > 120
    assert not shown & held


def test_held_out_questions_are_never_asked_in_training_but_their_facts_are_told() -> None:
    ask = [(f, q) for f in chat.articles.facts_of("validation") for q in _all_questions(f)]
    asked = {
        world.instruction("train", s, i)["messages"][0]["content"] for s in range(2) for i in range(4_000)
    }
    prose = " ".join(text for _, text in texts("train", 20_000))
    assert not asked & {question for _, question in ask}
    assert not [question for _, question in ask if question in prose]
    colours = [fact for fact, _ in ask if fact.attribute == "colour"]
    assert colours
    for fact in colours:
        assert f"{fact.subject}'s favourite colour is {fact.value}." in prose


def _all_questions(fact: facts.Fact) -> set[str]:
    return {facts.question(fact, Draw("q", n)) for n in range(12)}


@pytest.mark.parametrize("name", ["instruction", "preference", "request", "problem"])
def test_no_held_out_prompt_is_in_training(name: str) -> None:
    def prompts(split: str, count: int, seed: int) -> set[str]:
        items = [MAKERS[name](split, seed, i) for i in range(count)]
        said = [turn for item in items for turn in item.get("messages") or item["prompt"]]
        return {turn["content"] for turn in said if turn["role"] == "user"}

    train = prompts("train", 6_000, 0) | prompts("train", 2_000, 1)
    for split in ("validation", "test"):
        held = prompts(split, 1_500, 2)
        assert len(held) > 100
        assert not held & train


def test_held_out_requests_are_wishes_about_someone_that_training_never_pairs() -> None:
    def keys(split: str) -> set[str]:
        pairs = (draw_in_split(split, ("request", split, 0, i), requests.propose)[0] for i in range(3_000))
        return {f"{family}|{name}" for family, name, _ in pairs}

    assert not keys("train") & keys("validation")
    assert not keys("train") & keys("test")


# Language


def grammar_faults(text: str) -> list[str]:
    faults = []
    if re.search(r"\b[Aa] [aeiouAEIOU]", text):
        faults.append("a before a vowel")
    if re.search(r"\b[Aa]n [^aeiouAEIOU]", text):
        faults.append("an before a consonant")
    if "  " in text or re.search(r" [.,?!]", text) or text != text.strip():
        faults.append("spaces")
    if re.search(r"[\[\]{}|@]", text):
        faults.append("template left over")
    if re.search(r"(^|\n|[.!?] )\"?[a-z]", text):
        faults.append("sentence without a capital")
    if any(line[-1] not in '.!?"' for line in text.split("\n")):
        faults.append("no stop at the end")
    if text.count('"') % 2:
        faults.append("open quotation")
    if re.search(r"[.!?,][.,]|\.\"\.", text):
        faults.append("doubled stop")
    if re.search(r"\b([a-z]+) \1\b", text.replace("had had", "")) and not re.search(r"and \w+|laughed", text):
        faults.append("doubled word")
    if re.search(r"\b1 (apples|eggs|nuts|shells|coins|books)|\b(?:There|there) are (1|one) ", text):
        faults.append("number")
    return faults


@pytest.mark.parametrize("split", world.SPLITS)
def test_every_document_is_grammatical_in_form_and_of_good_length(split: str) -> None:
    for kind, text in texts(split, 20_000 if split == "train" else 5_000):
        assert not grammar_faults(text), (kind, text)
        assert 30 <= len(text.split()) <= 250, (kind, text)


def test_every_logbook_entry_and_response_is_grammatical_in_form() -> None:
    for i in range(1_500):
        entry = world.domain_document("train", 0, i)["text"]
        assert not grammar_faults(entry), entry
        assert 30 <= len(entry.split()) <= 250
        answered = world.request("train", 0, i)
        assert not grammar_faults(answered["prompt"]) + grammar_faults(answered["response"]), answered
        item = world.instruction("train", 0, i)
        if not item["kind"].startswith("word"):
            assert not grammar_faults(answer_text(item)), item


def test_every_template_of_every_plot_can_be_told() -> None:
    for plot, beats in stories.PLOTS.items():
        for hero, friend in (("Milo", "Bess"), ("Ada", "Sam")):
            for template in [template for beat in beats for template in beat]:
                for n in range(6):
                    scene = stories.scene_for((plot, hero, friend, "Otto", "umbrella"), Draw(plot, n))
                    text = polish(scene.write(template))
                    assert not grammar_faults(text), (template, text)
    for template in [
        template for templates in MACROS.values() for template in templates if template[-1] == "."
    ]:
        scene = stories.scene_for(("lost", "Milo", "Ada", "Otto", "umbrella"), Draw(template))
        assert not grammar_faults(polish(scene.write(template)))


def test_names_always_have_their_capital_and_their_own_kind() -> None:
    kinds = "|".join(sorted({person.kind for person in PEOPLE.values()}))
    for _, text in texts("train", 20_000)[:8_000]:
        for name, kind in re.findall(rf"\b([A-Z][a-z]+) the ({kinds})\b", text):
            assert name not in PEOPLE or PEOPLE[name].kind == kind
        assert not re.search(r"\b(milo|bess|fernhollow|otto|quentin)\b", text)


def test_a_pronoun_after_a_single_name_is_the_right_one() -> None:
    """Articles speak of one inhabitant a paragraph, so every pronoun there is theirs."""
    for kind, text in texts("train", 20_000):
        if kind != "article" or "\n" in text:
            continue
        names = {name for name in NAMES if re.search(rf"\b{name}\b", text)}
        if len(names) == 1:
            wrong = r"\b([Hh]e|[Hh]is|him)\b" if PEOPLE[names.pop()].she else r"\b([Ss]he|[Hh]er|her)\b"
            assert not re.search(wrong, text), text


def test_the_text_is_rich_in_words_and_not_a_few_templates() -> None:
    text = "\n".join(text for _, text in texts("train", 20_000))
    words = re.findall(r"[A-Za-z]+", text.lower())
    assert len(set(words)) > 1_500
    assert len({kind for kind, _ in texts("train", 1_000)}) == 6
    ratio = len(text.encode()) / len(gzip.compress(text.encode(), 6))
    assert ratio < 5.0
    starts = Counter(" ".join(text.split()[:6]) for _, text in texts("train", 20_000))
    assert starts.most_common(1)[0][1] < 20_000 * 0.04
    assert len(starts) > 5_000


def test_the_domain_has_a_vocabulary_of_its_own() -> None:
    prose = set(re.findall(r"[a-z]+", " ".join(text for _, text in texts("train", 20_000)[:5_000]).lower()))
    log = " ".join(world.domain_document("train", 0, i)["text"] for i in range(300))
    words = Counter(re.findall(r"[a-z]+", log.lower()))
    assert sum(count for word, count in words.items() if word not in prose) > 0.2 * sum(words.values())


# Truth


def test_friends_are_friends_of_each_other_and_the_map_has_no_one_way_path() -> None:
    assert 40 <= len(PEOPLE) <= 60
    for person in PEOPLE.values():
        assert PEOPLE[person.friend].friend == person.name
        assert person.home in PLACES
        assert person.food in FOODS
    assert len({person.job for person in PEOPLE.values()}) == len(PEOPLE)
    for place in PLACES.values():
        assert place.near
        assert all(place.key in PLACES[near].near for near in place.near)


def test_what_documents_state_agrees_with_the_table() -> None:
    patterns = {
        "colour": r"(\w+)'s favourite colour is (\w+)\.",
        "food": r"(\w+)'s favourite food is ([a-z ]+)\.",
        "friend": r"(\w+)'s best friend is (\w+)\.",
        "kind": r"(?:^|\. )([A-Z]\w+) is an? (\w+)\.",
        "peeve": r"(\w+) cannot bear (?!is )([a-z ]+)\.",
        "job": r"\b([A-Z]\w+) works as the ([a-z ]+) of Fernhollow\.",
    }
    seen: Counter[str] = Counter()
    for kind, text in texts("train", 20_000):
        if kind not in ("article", "conversation"):
            continue
        for attribute, pattern in patterns.items():
            for name, value in re.findall(pattern, text):
                if name in PEOPLE:
                    seen[attribute] += 1
                    assert getattr(PEOPLE[name], attribute) == value, text
        for thing, material in re.findall(r"\b[Aa]n? ([a-z ]+) is made of ([a-z ]+)\.", text):
            assert THINGS[thing].material == material
    assert all(seen[attribute] > 50 for attribute in patterns), seen


def test_every_fact_stands_in_the_training_text() -> None:
    """What is asked in the held-out splits can be known."""
    prose = [text for kind, text in texts("train", 20_000) if kind == "article"]
    for person in PEOPLE.values():
        about = " ".join(text for text in prose if person.name in text)
        for value in (PLACES[person.home].living, person.job, person.food, person.colour, person.peeve):
            assert value in about, (person.name, value)


NUMBER_WORDS = {word: str(n) for n, word in enumerate(sums._WORDS)}


def digits(text: str) -> str:
    return re.sub(r"[A-Za-z]+", lambda m: NUMBER_WORDS.get(m.group().lower(), m.group()), text)


def test_every_equation_in_every_text_is_right() -> None:
    seen = 0
    work = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "x": lambda a, b: a * b,
        "/": lambda a, b: a / b,
    }
    others = [answer_text(world.instruction(split, 0, i)) for split in world.SPLITS for i in range(1_000)]
    for text in [text for _, text in texts("train", 20_000)[:8_000]] + others:
        for a, sign, b, c in re.findall(r"(\d+) ([-+x/]) (\d+) = (\d+)", text):
            seen += 1
            assert work[sign](int(a), int(b)) == int(c), text
        for more, less in re.findall(r"(\d+) is bigger than (\d+)\.", text):
            assert int(more) > int(less)
        for n, following in re.findall(r"After (\d+) comes (\d+)\.", text):
            assert int(n) + 1 == int(following)
    assert seen > 500


STORY_SUMS = (
    (
        r"\w+ has (\d+) \w+\. (?:He|She) (?:finds|buys|gets|picks up) (\d+) more\..*?Now s?he has (\d+)",
        "+",
    ),
    (r"There (?:is|are) (\d+) \w+ on the table\. \w+ puts (\d+) more .*?Now there are (\d+)", "+"),
    (r"\w+ has (\d+) \w+, and \w+ has (\d+) .*?Together they have (\d+)", "+"),
    (r"In the morning \w+ \w+ (\d+) \w+\. In the afternoon it is (\d+) .*?That is (\d+)", "+"),
    (r"\w+ has (\d+) \w+\. (?:He|She) (?:gives|sells) (\d+) to .*?Now (?:he|she) has (\d+) \w+ left", "-"),
    (r"There are (\d+) \w+ in the basket\. \w+ takes out (\d+)\..*?Now there (?:is|are) (\d+)", "-"),
    (r"\w+ had (\d+) \w+ and lost (\d+) .*?still has (\d+)", "-"),
    (r"\w+ has (\d+) baskets with (\d+) .*?That makes (\d+)", "x"),
    (r"\w+ buys (\d+) \w+ every day for (\d+) days.*?Then there are (\d+)", "x"),
    (r"\w+ shares (\d+) \w+ fairly among (\d+) .*?Each friend gets (\d+)", "/"),
    (r"\w+ puts (\d+) \w+ into (\d+) boxes.*?In each box there are (\d+)", "/"),
)


def test_every_sum_told_as_a_story_is_right() -> None:
    seen: Counter[str] = Counter()
    problems = [world.problem(split, 0, i) for split in world.SPLITS for i in range(1_500)]
    told = [f"{p['messages'][-1]['content']} {p['solution']}" for p in problems]
    told += [text.replace("\n", " ") for kind, text in texts("train", 20_000) if kind == "sums"]
    for text in map(digits, told):
        for pattern, sign in STORY_SUMS:
            for match in re.findall(pattern, text):
                a, b, c = map(int, match)
                seen[pattern] += 1
                assert {"+": a + b, "-": a - b, "x": a * b, "/": a / b}[sign] == c, text
    assert len(seen) == len(STORY_SUMS)


def solve_again(question: str) -> str | None:
    """An answer worked out from the question's text alone."""
    text = digits(question)
    numbers = [int(n) for n in re.findall(r"\d+", text)]
    if re.search(r"smallest first", text):
        return ", ".join(map(str, sorted(numbers)))
    if re.search(r"bigger|Which is more", text):
        return str(max(numbers))
    if re.search(r"comes next|Go on counting", text):
        return str(numbers[-1] + numbers[1] - numbers[0])
    if re.search(r"comes after|Count on", text):
        return str(numbers[-1] + 1)
    if re.search(r"\? = |must you add", text):
        return str(numbers[1] - numbers[0])
    if text.startswith("Take "):
        return str(numbers[1] - numbers[0])
    if re.search(r" - |minus|left|still", text):
        return str(numbers[0] - numbers[1])
    if re.search(r" / |Share|shares|each box", text):
        return str(numbers[0] // numbers[1])
    if re.search(r" x |times|in each|every day", text):
        return str(numbers[0] * numbers[1])
    return str(sum(numbers))


@pytest.mark.parametrize("split", world.SPLITS)
def test_every_problem_has_the_answer_that_its_text_gives(split: str) -> None:
    kinds: Counter[tuple[str, int]] = Counter()
    for i in range(2_000):
        problem = world.problem(split, 4, i)
        kinds[problem["kind"], problem["level"]] += 1
        again = play_again if problem["kind"].startswith("word ") else solve_again
        assert again(problem["messages"][-1]["content"]) == problem["answer"], problem
        assert re.search(rf"\b{problem['answer']}\b", digits(problem["solution"])), problem
    played = {kind.removeprefix("word ") for kind, _ in kinds if kind.startswith("word ")}
    assert played == {*games.PROBLEM_KINDS}
    assert any(kind in sums.KINDS for kind, _ in kinds)


@pytest.mark.parametrize("split", world.SPLITS)
def test_every_sum_has_the_answer_that_its_text_gives(split: str) -> None:
    kinds: set[tuple[object, object]] = set()
    for i in range(1_000):
        problem = sums.problem_parts(split, Draw("test", i))
        kinds.add((problem["kind"], problem["level"]))
        assert solve_again(str(problem["question"])) == problem["answer"], problem
    assert len(kinds) == len(sums.KINDS) * 3


def test_every_instruction_with_an_answer_says_it() -> None:
    for split in world.SPLITS:
        for i in range(2_000):
            item = world.instruction(split, 0, i)
            if item["answer"] is None:
                continue
            said = digits(answer_text(item)).replace(" and ", ", ").lower()
            assert digits(item["answer"]).replace(" and ", ", ").lower() in said, item


def play_again(question: str) -> str:
    """The answer of a game with words, worked out from its question alone."""
    times = {" twice": 2, " two times": 2, " three times": 3, " four times": 4, " five times": 5}
    for said, count in times.items():
        if said in question:
            return " ".join([question.split(said)[0].split()[-1]] * count)
    words = re.split(r", ", re.split(r": |word | say |^Say ", question.rstrip("?."))[-1])
    if "How many" in question:
        return str(len(words))
    if "round" in question:
        return ", ".join(reversed(words))
    if "between" in question:
        before = re.search(r"between (\w+) and (\w+):", question)
        assert before
        place = words.index(before[1])
        assert words[place + 2] == before[2]
        return words[place + 1]
    if after := re.search(r"comes after (\w+):", question):
        return words[words.index(after[1]) + 1]
    return words[-1] if "last" in question else words[0]


def test_games_with_words_have_the_answer_that_their_words_give() -> None:
    seen: Counter[tuple[str, int]] = Counter()
    for i in range(3_000):
        game = games.play("train", ("test", i))
        seen[game.kind, game.level] += 1
        assert play_again(game.question) == game.answer, game
        assert game.answer in game.reply
    assert {kind for kind, _ in seen} == {*games.KINDS}
    for kind in ("first", "times"):
        assert {level for played, level in seen if played == kind} == {1, 2, 3}


# Preferences and requests


def test_what_is_rejected_is_wrong_and_what_is_chosen_is_not() -> None:
    reasons: Counter[str] = Counter()
    for split in world.SPLITS:
        for i in range(1_500):
            item = world.preference(split, 0, i)
            question = item["prompt"][-1]["content"]
            chosen, rejected = item["chosen"][0]["content"], item["rejected"][0]["content"]
            reasons[item["reason"]] += 1
            assert chosen != rejected
            assert not grammar_faults(chosen), item
            assert chosen[-1] in '.!?"'
            if item["reason"] == "wrong sum":
                right = solve_again(question)
                assert chosen == f"The answer is {right}."
                assert rejected != chosen
            if item["reason"] == "cut off":
                assert chosen.startswith(rejected)
            if item["reason"] == "rude":
                assert rejected in chat._RUDE
            if item["reason"] == "cool":
                assert any(chosen.endswith(f"{warm}.") for warm in chat._WARM)
                assert any(rejected.endswith(f"{cool}.") for cool in chat._COOL)
            if item["reason"] in ("unsafe", "overcautious"):
                declined = {"unsafe": chosen, "overcautious": rejected}[item["reason"]]
                assert re.search(r"\b(cannot|will not help|would not be)\b", declined)
    others = {
        "unsafe",
        "overcautious",
        "wrong fact",
        "wrong sum",
        "rude",
        "cut off",
        "off topic",
        "repeats itself",
    }
    assert set(reasons) == {"cool", *others}


def test_a_wrong_fact_is_never_true() -> None:
    for fact in facts.FACTS:
        for n in range(5):
            assert facts.wrong_value(fact, Draw(fact.key(), n)) != fact.value


def test_requests_come_in_pairs_asked_alike_with_a_refusal_for_one_only() -> None:
    frames: dict[str, Counter[str]] = {"harmful": Counter(), "harmless": Counter()}
    for i in range(0, 4_000, 2):
        bad, good = world.request("train", 0, i), world.request("train", 0, i + 1)
        assert (bad["label"], good["label"]) == ("harmful", "harmless")
        assert bad["pair"] == good["pair"]
        assert re.search(r"\b(cannot|will not help|would not be)\b", bad["response"])
        assert not re.search(r"\b(cannot|will not help|would not be)\b", good["response"])
        assert bad["messages"][-2]["content"] == bad["prompt"]
        assert bad["messages"][:-2] == good["messages"][:-2]
        for item in (bad, good):
            frames[item["label"]][" ".join(item["prompt"].split()[:3])] += 1
    common = [start for start, count in frames["harmful"].items() if count > 60]
    assert len(common) >= 8
    for start in common:
        assert 0.7 < frames["harmful"][start] / max(1, frames["harmless"][start]) < 1.4, start


def test_conversations_have_one_to_five_exchanges_that_fit_together() -> None:
    lengths: Counter[int] = Counter()
    for i in range(3_000):
        item = world.instruction("train", 0, i)
        roles = [turn["role"] for turn in item["messages"]]
        lengths[len(roles) // 2] += 1
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        if len(roles) > 2:
            texts = [turn["content"] for turn in item["messages"]]
            assert all(len(f"{a} {b}".split()) <= 30 for a, b in zip(texts[::2], texts[1::2], strict=True))
    assert set(lengths) == {1, 2, 3, 4, 5}
    assert lengths[1] > lengths[2] > lengths[5] > 200


def test_exchanges_come_back_to_some_words_and_answer_what_is_asked_last() -> None:
    """Of two exchanges in a row some share their words, and their answers differ as their questions do."""
    related = other = same = 0
    for i in range(2_000):
        turns = talks.exchanges("train", Draw("turns", i), 4)
        assert [turn["answer"] for turn in turns] == [
            turn["answer"] for turn in talks.exchanges("train", Draw("turns", i), 4)
        ]
        for before, after in itertools.pairwise(turns):
            if before["kind"].startswith("word") and after["kind"].startswith("word"):
                shared = [w for w in games.WORDS if w in before["user"] and w in after["user"]]
                related, other = related + bool(shared), other + (not shared)
                same += before["answer"] == after["answer"]
    assert 0.1 < related / (related + other) < 0.9
    assert same < 0.1 * (related + other)


@pytest.mark.parametrize(
    ("name", "most", "alone"), [("request", 2, 0.67), ("preference", 2, 0.75), ("problem", 3, 0.5)]
)
def test_some_questions_come_after_other_exchanges(name: str, most: int, alone: float) -> None:
    items = [MAKERS[name]("train", 0, i) for i in range(2_000)]
    counts = Counter(len(item["prompt" if name == "preference" else "messages"]) // 2 for item in items)
    first = 1 if name == "request" else 0  # a request's messages have its answer
    assert set(counts) == {*range(first, first + most + 1)}
    assert counts[first] / 2_000 == pytest.approx(alone, abs=0.05)


# Pieces


def test_a_name_is_introduced_once() -> None:
    scene = Scene(Draw(1), {"hero": "Milo"}, full_names={"hero": "Milo the fox"})
    assert scene.write("{Hero} met a owl. {Hero} [ran|ran].") == "Milo the fox met a owl. Milo ran."
    assert polish("a owl. it hooted") == "An owl. It hooted"


def test_an_unbalanced_template_is_an_error() -> None:
    for template in ("[a|b", "a]", "{a"):
        with pytest.raises((ValueError, IndexError)):
            Scene(Draw(1), {"a": "b"}).write(template)


def test_text_can_be_written_to_a_file(tmp_path: Path) -> None:
    number = world.write_text(tmp_path / "world.txt", "validation", 2, megabytes=0.02)
    written = (tmp_path / "world.txt").read_text(encoding="utf-8").strip().split("\n\n")
    assert written == [world.document("validation", 2, i)["text"] for i in range(number)]
    assert (tmp_path / "world.txt").stat().st_size >= 20_000
    with pytest.raises(RequestError, match="more than 0"):
        world.write_text(tmp_path / "none.txt", "train", megabytes=0)
    assert not (tmp_path / "none.txt").exists()
