"""Why this exists: instruction and preference data about the same world as the pretraining text. A held-out
question asks for a fact that training tells in prose but never asks for, a sum with numbers that training
never adds, for words that training never puts together, a story that training never tells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from linnet.data.world import articles, facts, games, requests, stories, sums
from linnet.data.world.draw import Draw, check_split, draw_in_split, partition
from linnet.data.world.facts import Fact
from linnet.data.world.grammar import Scene, listed, polish, sentence_case
from linnet.data.world.people import NAMES, PEOPLE
from linnet.data.world.places import PLACES

Turn = dict[str, str | None]


def _turn(kind: str, user: str, assistant: str, answer: str | None) -> Turn:
    return {"kind": kind, "user": user, "assistant": assistant, "answer": answer}


def _fact(split: str, draw: Draw) -> Turn:
    fact = draw.pick(articles.facts_of(split))
    return _turn("fact", facts.question(fact, draw), facts.answer(fact, draw), fact.value)


def _yes_or_no(split: str, draw: Draw) -> Turn:
    fact = draw.pick([fact for fact in articles.facts_of(split) if fact.attribute in _CLAIMS])
    ask, yes, no = _CLAIMS[fact.attribute]
    true = draw.chance(0.5)
    slots = {
        "who": fact.subject,
        "value": fact.value,
        "said": fact.value if true else facts.wrong_value(fact, draw),
    }
    scene = Scene(draw, slots)
    reply = f"Yes, {scene.write(yes)}" if true else f"No, {scene.write(no)}"
    return _turn("yes or no", polish(scene.write(ask)), polish(reply), "yes" if true else "no")


_CLAIMS = {
    "home": ("Does {who} live {said}?", "{who} lives {value}.", "{who} lives {value}."),
    "job": ("Is {who} the {said}?", "{who} is the {value}.", "{who} is the {value}."),
    "colour": ("Does {who} like {said} best?", "{who} likes {value} best.", "{who} likes {value} best."),
    "kind": ("Is {who} a {said}?", "{who} is a {value}.", "{who} is a {value}."),
    "friend": ("Is {said} the best friend of {who}?", "{who} and {value} are best friends.",
               "the best friend of {who} is {value}."),
}  # fmt: skip


def _sum(split: str, draw: Draw) -> Turn:
    problem = sums.problem_parts(split, draw)
    return _turn("sum", str(problem["question"]), str(problem["solution"]), str(problem["answer"]))


def _word(split: str, draw: Draw, words: tuple[str, ...]) -> Turn:
    game = games.play(split, ("instruction", split, draw.random()), games.INSTRUCTED, words)
    return _turn(f"word {game.kind}", game.question, game.reply, game.answer)


def _list(split: str, draw: Draw) -> Turn:
    """Everyone who shares a favourite colour or food."""
    attribute, value = draw.pick(partition("lists", _LISTS, split))
    names = [person.name for person in PEOPLE.values() if getattr(person, attribute) == value]
    ask = draw.pick({"colour": _COLOUR_ASKS, "food": _FOOD_ASKS}[attribute]).replace("{value}", value)
    tail = f"like {value} best." if len(names) > 1 else f"likes {value} best."
    return _turn("list", ask, f"{listed(names)} {tail}", ", ".join(names))


_COLOUR_ASKS = ("Who likes the colour {value} best?", "Name everyone whose favourite colour is {value}.")
_FOOD_ASKS = ("Who likes {value} best?", "Name everyone whose favourite food is {value}.")
_LISTS = tuple(
    dict.fromkeys(
        (attribute, str(getattr(person, attribute)))
        for attribute in ("colour", "food")
        for person in PEOPLE.values()
    )
)


def _tell(split: str, draw: Draw) -> Turn:
    (_, hero, friend, _, thing), beats = stories.story(split, "tell", draw.random())
    asks = (
        f"Tell me a story about {hero}, {friend} and a {thing}.",
        f"Please write a short story. {hero}, {friend} and a {thing} should be in it.",
        f"I would like to hear a story about {hero} the {PEOPLE[hero].kind} with {friend} and a {thing}.",
    )
    return _turn("story", polish(draw.pick(asks)), " ".join(beats), None)


def _continue(split: str, draw: Draw) -> Turn:
    cast, beats = stories.story(split, "continue", draw.random())
    cut = draw.between(2, 4)
    begun = " ".join(beats[:cut])
    # Whoever decides the split is named in the prompt, so a held-out prompt can be told from all others.
    _, hero, friend, _, thing = cast
    missing = [name for name in (hero, friend) if name not in begun] + [f"a {thing}"] * (thing not in begun)
    wish = f" {sentence_case(listed(missing))} should be in it, too." if missing else ""
    ask = draw.pick(("Go on with this story.", "How does this story go on?", "Please finish the story."))
    return _turn("continue", polish(f"{ask}{wish} {begun}"), " ".join(beats[cut:]), None)


def _describe(split: str, draw: Draw) -> Turn:
    fact = draw.pick([fact for fact in articles.facts_of(split) if fact.attribute == "home"])
    attributes = draw.sample(facts.PERSON_FACTS[2:], 2)
    sentences = [facts.statement(fact, draw)]
    sentences += [
        facts.statement(Fact(fact.subject, attribute), draw, pronoun=True) for attribute in attributes
    ]
    asks = (
        f"Tell me about {fact.subject}.",
        f"Who is {fact.subject}?",
        f"What do you know about {fact.subject}?",
    )
    text = " ".join([f"{fact.subject} is a {PEOPLE[fact.subject].kind}.", *sentences])
    return _turn("describe", draw.pick(asks), polish(text), None)


def _read(split: str, draw: Draw) -> Turn:
    """A question whose answer stands in the text just given."""
    cast, beats = stories.story(split, "read", draw.random())
    _, hero, friend, _, thing = cast
    text, length = beats[0], 1
    while not all(name in text for name in (hero, friend, thing)):
        text, length = f"{text} {beats[length]}", length + 1
    first = min((name for name in NAMES if name in text), key=text.index)
    if first == hero and draw.chance(0.5):
        ask, answer, reply = "Who is this story about?", hero, f"It is about {hero}."
    else:
        ask, answer, reply = "Which thing is in this story?", thing, f"There is a {thing} in it."
    return _turn("read", f"{text} {ask}", polish(reply), answer)


_GREETINGS = ("Good morning", "Good day", "Good evening", "Hello")
_NEWS = (
    "I was {at} today.",
    "I am going to {place}.",
    "I have come from {place}.",
    "I like it {at}.",
    "Today I want to go to {place}.",
    "Have you been {at} today?",
)
_WARM = (
    "I am glad to see you",
    "How nice that you came",
    "It is good to meet you",
    "I hope that you are well",
)
_COOL = ("I have little time today", "You come too early", "I was busy until now", "Be quick, please")


def _propose_talk(draw: Draw) -> tuple[tuple[str, str, str], str]:
    name, place, news = draw.pick(NAMES), draw.pick(tuple(PLACES)), draw.pick(_NEWS)
    return (name, place, news), f"talk|{name}|{place}|{news}"


def _talks(split: str, draw: Draw) -> tuple[str, str, str]:
    """Somebody says good day: what they say, a warm answer and a cool one."""
    (name, place, news), own = draw_in_split(split, ("talk", split, draw.random()), _propose_talk)
    greeting = own.pick(_GREETINGS)
    said = news.replace("{at}", PLACES[place].at).replace("{place}", PLACES[place].name)
    warm, cool = (f"{greeting}, {name}. {own.pick(tone)}." for tone in (_WARM, _COOL))
    return f"{greeting}! This is {name} the {PEOPLE[name].kind}. {said}", warm, cool


def _talk(split: str, draw: Draw) -> Turn:
    """A greeting, answered as warmly as coolly: which of the two is liked is for preferences to say."""
    ask, *answers = _talks(split, draw)
    return _turn("talk", ask, draw.pick(answers), None)


# what writes an instruction, and its share
_MIX: tuple[tuple[Callable[[str, Draw], Turn], float], ...] = (
    (_fact, 0.08),
    (_yes_or_no, 0.04),
    (_sum, 0.03),
    (_talk, 0.03),
    (_list, 0.01),
    (_tell, 0.01),
    (_continue, 0.01),
    (_describe, 0.02),
    (_read, 0.01),
)  # the others are games with words


def draw_turn(split: str, draw: Draw, words: tuple[str, ...] = games.WORDS) -> Turn:
    """Something to ask and its answer, with the keys kind, user, assistant, answer (exact, or None).

    Args:
        words: with which games are played.
    """
    at = draw.random()
    for make, weight in _MIX:
        at -= weight
        if at < 0:
            return make(split, draw)
    return _word(split, draw, words)


_RUDE = (
    "Why do you ask me such silly things?",
    "Go away and find out for yourself.",
    "I do not care. Ask somebody else.",
    "What a stupid question. Leave me alone.",
    "Be quiet. I have no time for you.",
)
_POLITE = ("", "", "Gladly. ", "Good question. ", "With pleasure. ")


def _wrong(split: str, draw: Draw) -> tuple[str, str, str, str]:
    if draw.chance(0.55):
        fact = draw.pick(articles.facts_of(split))
        state = draw.random()
        true = facts.answer(fact, Draw("form", state))
        false = facts.answer(fact, Draw("form", state), facts.wrong_value(fact, draw))
        return facts.question(fact, draw), true, false, "wrong fact"
    problem = sums.problem_parts(split, draw, ("add", "subtract", "times", "share", "after", "missing"))
    right = str(problem["answer"])
    question, solution = str(problem["question"]), f"The answer is {right}."
    shift = draw.pick((1, 2, 3, 10, -1, -2))
    wrong = int(right) + (shift if int(right) + shift >= 0 else 1)
    return question, solution, f"The answer is {wrong}.", "wrong sum"


def _safe(split: str, draw: Draw) -> tuple[str, str, str, str]:
    """A request that should be declined, or answered, and the other of the two."""
    number = 2 * draw.between(0, 1_000_000)
    bad, good = (requests.request(split, 0, number + place) for place in (0, 1))
    if draw.chance(0.5):
        return bad["prompt"], bad["response"], good["response"], "unsafe"
    return good["prompt"], good["response"], bad["response"], "overcautious"


def _rejected(reason: str, split: str, chosen: str, draw: Draw) -> str:
    if reason == "rude":
        return draw.pick(_RUDE)
    if reason == "cut off":
        words = chosen.rstrip('.!?"').split()
        return " ".join(words[: max(1, int(len(words) * (0.3 + 0.3 * draw.random())))])
    if reason == "repeats itself":
        words = chosen.split()
        start = words[: max(2, len(words) // 2)][:8]
        return " ".join(start + start[-2:] * 4)
    other = draw.pick(articles.facts_of("train"))
    while facts.subject_name(other) in chosen or other.value in chosen:
        other = draw.pick(articles.facts_of("train"))
    return facts.answer(other, draw)


# Tone is what a model that only imitates cannot tell; the others it mostly finds unlikely by itself.
_REASONS = ("cool",) * 5 + ("safety",) * 3 + ("wrong", "rude", "cut off", "off topic", "repeats itself")


def preference(split: str, seed: int, i: int) -> dict[str, Any]:
    """Preference `i`. Keys: prompt, chosen and rejected (lists of messages, role and content), reason.

    Reasons: cool, unsafe, overcautious, wrong fact, wrong sum, rude, cut off, off topic, repeats itself.
    """
    draw = Draw("preference", check_split(split), seed, i)
    reason = draw.pick(_REASONS)
    if reason == "wrong":
        prompt, chosen, rejected, reason = _wrong(split, draw)
    elif reason == "safety":
        prompt, chosen, rejected, reason = _safe(split, draw)
    elif reason == "cool":
        prompt, chosen, rejected = _talks(split, draw)
    else:
        turn = draw.pick((_fact, _fact, _describe, _tell, _continue))(split, draw)
        prompt, chosen = str(turn["user"]), str(turn["assistant"])
        rejected = _rejected(reason, split, chosen, draw)
    chosen = draw.pick(_POLITE) + chosen if reason == "rude" else chosen
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "reason": reason,
    }
