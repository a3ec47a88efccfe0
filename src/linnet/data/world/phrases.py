"""Why this exists: stories share openings, weather, ways of speaking and endings. Kept in one table they can
vary freely, and a story never uses the same line twice.

Slots: {hero} {he} {him} {his} {himself}; the same for {friend} with f ({fhe} ...) and {other} with o; a slot
ending in _n is always the short name. {thing} {a_thing} {place} {at_place} {next_place} {home} {at_home}
{food} {portion} {parts}.
"""

from __future__ import annotations

MACROS: dict[str, tuple[str, ...]] = {
    "day": (
        "One [bright|fine|clear|quiet|warm] [morning|afternoon|day]",
        "One [spring|summer|autumn] [morning|afternoon|day]",
        "Early [one|in the] morning",
        "On [market day|a sunny day|a quiet afternoon|the first day of spring|the last day of summer]",
        "[Not long ago|One day|Once, long ago|Last week|Last summer]",
        "After breakfast one day",
    ),
    "opening": (
        "{@day}, {hero} [was sitting|was walking|stood|was resting] {at_place}.",
        "{@day}, {hero} went to {place}.",
        "{@day}, {hero} woke up early and [looked out of the window|stretched|put the kettle on|hummed a tune].",
        "{Hero} lived {at_home}. [Every morning|Each day] {he} [walked|went down|strolled] to {place}.",
        "{Hero} lived {at_home}, and {he} [was the {job} of the village|worked as the {job}].",
        "There was once a {kind} called {hero_known}, who lived {at_home}.",
        "{@day}, {hero} came home to {home} [tired but happy|with a song in {his} heart|a little late].",
        "In the village of {village} lived {hero}, the {job}.",
        "{@scenery} {Hero} [was on the way to|was walking to|had come to] {place}.",
        "Everyone in {village} knew {hero}, the {job}.",
        "It was a [bright|fine|quiet|warm] [morning|day], and {hero} was [glad|happy|cheerful].",
        "{At_place}, [on a fine day|one morning|one afternoon], {hero} was [singing|humming|resting] in the sun.",
    ),
    "scene": (
        "{@day}, {hero} [was sitting|was walking|stood|was resting] {at_place}.",
        "{@day}, {hero} went to {place}.",
        "{@scenery} {Hero} [was on the way to|was walking to|had come to] {place}.",
        "{Hero}, who lived {at_home}, [was walking|was resting] {at_place} one [morning|afternoon|day].",
        "{At_place}, [on a fine day|one morning|one afternoon], {hero} was [singing|humming|resting] in the sun.",
        "{Hero}, the {job}, had [finished the day's work|a free afternoon] and was {at_place}.",
    ),
    "scenery": (
        "The sun [shone|was warm|was bright] and the [wind|air] was [soft|still|gentle].",
        "[Small|White|Soft] clouds [sailed|drifted|floated] over the [hills|roofs|river].",
        "The birds were [singing|busy|chirping] in the [trees|hedges].",
        "The [river|water] [sparkled|shone] in the [sun|morning light].",
        "A [soft|light|cool] wind [came from the sea|moved the grass|played with the leaves].",
        "The air [smelled of|was full of the smell of] [bread|flowers|wet grass|the sea].",
    ),
    "worry": (
        "{He} felt [sad|worried|upset|sick with worry].",
        "A tear [ran down|rolled down] {his} [cheek|nose].",
        '"Oh dear," said {hero}. "What [shall|can] I do?"',
        '"Oh no!" cried {hero}. "What [now|will I do|will become of me]?"',
        "{His} heart [sank|felt heavy], and {he} [sat down|did not know what to do].",
        "{He} sat down on a stone and thought for a long time.",
    ),
    "comes_by": (
        "[Just then|At that moment|Before long|A little later], {other} [came by|came along the road|walked past].",
        "{Other}, the {ojob}, [saw|noticed] that something was wrong.",
        "{Other}, who lived {at_ohome}, [heard|saw] {him} and [came over|stopped].",
        "Along came {other}, the {ojob}, [with a basket on {ohis} arm|on the way home|humming a tune].",
    ),
    "asks": (
        '"[What is the matter|What is wrong|Why are you so sad], {hero_n}?" asked {other}.',
        '"You look [sad|worried], {hero_n}," said {other}. "[Tell me why|Can I help|What happened]?"',
        "{Other} asked {him} [kindly|gently|in a soft voice] what had happened.",
        '"Good day, {hero_n}," said {other}. "[Can I help you|Is something wrong]?"',
    ),
    "tells": (
        "{Hero} told {other} [everything|the whole story|all about it].",
        "So {hero} [explained|told {ohim}] what had happened.",
        "{Hero} [sighed|swallowed] and told the whole story.",
    ),
    "thanks": (
        '"Thank you, {other_n}," said {hero}. "You are [very kind|a true friend|so good to me]."',
        "{Hero} thanked {other} [again and again|with all {his} heart|with a big hug].",
        '"[Thank you|Oh, thank you]!" [cried|said] {hero}. "[I will never forget this|How kind you are]!"',
        "{Hero} was so [happy|glad|grateful] that {he} [hugged|thanked] {other} [twice|three times].",
    ),
    "thanks_friend": (
        '"Thank you, {friend_n}," said {hero}. "You are [very kind|a true friend|so good to me]."',
        "{Hero} thanked {friend} [again and again|with all {his} heart|with a big hug].",
        '"[Thank you|Oh, thank you]!" [cried|said] {hero}. "[I will never forget this|How kind you are]!"',
    ),
    "laugh": (
        "They both [laughed|smiled|began to laugh].",
        "Then they [laughed|laughed and laughed] until [their sides hurt|they had to sit down].",
        "{Friend} [laughed|smiled], and so did {hero}.",
    ),
    "share_food": (
        "They [shared|ate] {portion} and [talked|told stories|laughed] until the [sun went down|stars came out].",
        "[Afterwards|Then] {friend} [brought out|cut up|served] {portion}, and there was enough for everyone.",
        "That evening they [sat by the fire|sat {at_home}] and ate {food}.",
    ),
    "evening": (
        "[That night|That evening], {hero} [slept well|went to bed happy|fell asleep with a smile].",
        "The sun went down, and {hero} walked home [slowly|happily|under the first stars].",
        "When the stars came out, {hero} was [safe and warm|fast asleep] {at_home}.",
        "And so the day ended [well|happily|as it had begun, in peace].",
    ),
    "together": (
        "[From that day on|After that], {hero} and {friend} were [better friends than ever|always together].",
        "And {hero} and {friend} [walked home|went home] [side by side|together|arm in arm].",
        "{Hero} and {friend} [still laugh|often talk] about that day.",
        "{Hero} looked at {friend} and thought that it is good to have a friend.",
    ),
    "said": ("said", "said", "said", "answered", "replied"),
    "kindly": ("kindly", "gently", "softly", "with a smile", "in a low voice", "cheerfully"),
    "quick_f": ("at once", "as fast as {fhe} could", "right away"),
    "they_wanted": ("they wanted", "they needed", "they had hoped for"),
    "night": (
        "The moon [was thin|hid behind a cloud].",
        "An owl called [far away|from the wood].",
        "The stars [were bright|looked down on them].",
    ),
    "quick": ("at once", "as fast as {he} could", "without waiting", "right away"),
}
