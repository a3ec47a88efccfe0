"""Why this exists: plots that happen at home and among friends. A plot is a list of beats, a beat a choice of
templates, so that each telling keeps cause and effect while the sentences change. Slots are those of
`phrases.py`. Every plot names its hero, its friend or other, and its thing or food, so that what a story is
about can be read from its text.
"""

# ruff: noqa: E501  (a template is read as one line)

from __future__ import annotations

HOME_PLOTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "lost": (
        ("{@scene}",),
        (
            "{He} wanted to use {his} {thing}, but it was [gone|not there].",
            "{He} reached for {his} {adj} {thing}. It was [gone|not in its place].",
            "Then {he} saw that {his} {adj} {thing} was [missing|gone].",
        ),
        ("{@worry}",),
        (
            "The {thing} had been a [gift|present] from {friend}, and {he} loved it [dearly|more than anything].",
            '"{Friend_n} gave me that {thing}," {he} thought. "[What will {fhe} say|Where can it be]?"',
            "{Friend} had given {him} the {thing} [last winter|on {his} birthday|a year ago].",
        ),
        (
            "{He} looked under the bed and behind the door, but the {thing} was not there.",
            "First {he} looked {at_place}. Then {he} looked {at_next}. There was no {thing} [anywhere|to be seen].",
            "{He} searched {@quick}. {He} [emptied every drawer|lifted every cushion], but [found nothing|found only dust].",
        ),
        ("{@comes_by} {@asks}",),
        (
            '"I have lost my {thing}," {@said} {hero}. "I have looked everywhere."',
            '"My {thing} is gone," {@said} {hero}, "and I cannot find it."',
        ),
        (
            '"When did you have it last?" asked {other}. {Hero} thought. "{At_next}!" {he} cried.',
            '"Think," said {other}. "Where were you yesterday?" "I was {at_next}," said {hero}.',
            '"Let us look together," said {other}. "[Two pairs of eyes are better than one|We will start {at_next}]." So they went to {next_place}.',
        ),
        (
            "They went there together, and there it was, [under a bench|behind a barrel|in the tall grass|beside a stone].",
            "And there, [under a bush|behind a box|beside the path|between two stones], lay the {thing}.",
            "They [looked high and low|hunted for a long time], and at last {other} [found|saw] the {thing} [under a leaf|behind a pile of wood].",
        ),
        ("{@thanks}",),
        (
            "From then on, {hero} always [put the {thing} back in its place|kept the {thing} in a safe place].",
            "{Hero} carried the {thing} home and put it [on a shelf|on a hook by the door].",
            "{@evening}",
        ),
    ),
    "borrowed and broken": (
        (
            '{Friend} lent {hero} {a_thing}. "Please be careful with it," {fhe} said.',
            "{@day}, {hero} asked {friend} for {fhis} {adj} {thing}, and {friend_n} [was glad to lend it|gave it with a smile].",
            "{Hero} had borrowed {a_thing} from {friend}.",
        ),
        (
            "{He} carried it [home|to {home}], but on the way {he} [slipped|tripped over a root|fell], and the {thing} broke.",
            "{He} was in a hurry. {He} [dropped the {thing}|let the {thing} fall], and it broke.",
            "But {he} did not look where {he} was going. Crack! The {thing} [broke|was broken].",
        ),
        ("{@worry}",),
        (
            "At first {he} wanted to hide it. But a secret is a heavy thing to carry.",
            '"I could say that it was the wind," {he} thought. But that would not be true.',
            "{He} did not sleep well that night.",
        ),
        (
            'So {he} went to {friend} and said, "I broke your {thing}. I am [sorry|very sorry]."',
            'In the morning {he} [knocked at|went to] {friend_n}\'s door. "I am sorry," {he} said. "I broke your {thing}."',
        ),
        (
            '{Friend} was [sad|quiet] for a moment. "Thank you for telling me the truth," {fhe} said.',
            '"[Everyone breaks something one day|A {thing} can be mended]," {@said} {friend}. "I am glad that you told me."',
            '{Friend} [looked at the pieces|shook {fhis} head], and then {fhe} smiled. "You told the truth. That is worth more than a {thing}."',
        ),
        (
            "Together they [took it to {other}|asked {other} for help], and {ohe} mended it with [glue|a little paint|strong thread] and patience.",
            "{Other}, the {ojob}, showed them how to mend it, and soon the {thing} was [as good as new|whole again].",
        ),
        ("{@together}", "{@evening}", "Now {hero} is careful with things, above all with those of others."),
    ),
    "quarrel": (
        (
            "{Hero} and {friend} found {a_thing} {at_place}.",
            "{@day}, {hero} and {friend} were playing {at_place} with {a_thing}.",
            "{Hero} and {friend} were best friends, but one day they both wanted the same {adj} {thing}.",
        ),
        (
            '"It is mine!" said {hero}. "No, it is mine!" said {friend}.',
            '"I want it first," said {hero}. "You always go first," said {friend}.',
            '"Give it to me!" cried {hero}. "No, I saw it first!" cried {friend}.',
        ),
        (
            "They pulled and pulled, and they [said unkind words|shouted at each other].",
            "They both became [angry|cross|red in the face].",
        ),
        (
            "{Friend} [went home|walked away] without a word, and {hero} [kept the {thing}|sat down alone with the {thing}].",
            "Then {hero} [stamped {his} foot|turned round] and went home, and so did {friend}. The {thing} [lay|stayed] on the ground.",
        ),
        (
            "But playing alone was [no fun|dull|lonely]. {Hero} [missed|thought of] {friend}.",
            "That evening {hero} could not eat {his} {food}. {He} was [lonely|sorry].",
            "The house was [very quiet|too quiet]. {Hero} began to feel [sorry|lonely].",
        ),
        (
            'The next day {hero} [went to|knocked at the door of] {friend}. "I am sorry," {he} said. "I was [unkind|selfish]."',
            'In the morning they met {at_place}. "I am sorry," said {hero}. "So am I," said {friend}.',
            '{Hero} ran to {friend}. "[Let us be friends again|You can have the {thing}]," {he} said. "I am sorry that I shouted."',
        ),
        (
            '"We can share it," said {friend}. "You on one day and I on the next."',
            '"Let us take turns," said {friend}, and they did.',
            '"The {thing} belongs to both of us," said {friend}. {Hero} [nodded|was glad].',
        ),
        ("{@laugh}", "{@share_food}"),
        ("{@together}", "A {thing} is good, but a friend is better.", "{@evening}"),
    ),
    "birthday gift": (
        (
            "It was {friend}'s birthday, and {hero} had no [present|gift].",
            "Tomorrow was the birthday of {friend}. {Hero} wanted to give {fhim} something [special|nice].",
            "{@opening} {He} was thinking about the birthday of {friend}.",
        ),
        (
            "{He} had [no coins|only two coins], and everything {at_market} cost more.",
            "{He} looked at all the things in the market, but {he} had no [coins|money].",
        ),
        ("{@comes_by}",),
        (
            '"[The best gift is made by hand|You have two good hands]," said {other}. "You could make {a_thing}."',
            '"You can make {a_thing}," said {other}. "I will [show you how|give you some {material}]."',
            '{Other} gave {him} some {material}. "Make {a_thing}," {ohe} said.',
        ),
        (
            "So {hero} [worked|cut and glued|worked with care] all [day|evening]. It was not easy, but {he} did not give up.",
            "{Hero} tried. The first {thing} was [crooked|too small]. The second one was [better|just right].",
            "{Hero} worked by the light of a candle until the {thing} was [ready|finished].",
        ),
        (
            "The {thing} was [not perfect|a little crooked], and {hero} was [afraid|worried] that {friend} would not like it.",
            '"What if {friend_n} does not like it?" {he} thought.',
        ),
        (
            "But when {friend} opened the [parcel|box], {fhis} eyes [shone|grew wide].",
            "{Friend} [untied the ribbon|opened the box] slowly. Then {fhe} [smiled|jumped for joy].",
        ),
        (
            '"You made this {thing} for me?" {fhe} asked. "It is the [best|finest] gift of all."',
            '"{A_thing}!" cried {friend_n}. "[I will keep it for ever|Nobody has ever made me a gift before]."',
        ),
        ("{@share_food}", "{@together}", "{@evening}"),
    ),
    "baking": (
        (
            "{@opening} {He} wanted to make {portion}.",
            '{@day}, {hero} said, "Today I will make {portion}."',
            "{Hero} loved to cook. {@day}, {he} [began to make|wanted to make] {portion} for {friend}.",
        ),
        (
            "For {food} one needs {parts}. {He} put everything on the table, right beside {his} {thing}.",
            "{He} moved {his} {thing} out of the way and put {parts} on the table.",
            "{He} put {his} {adj} {thing} away and looked in {his} cookbook. It said: take {parts}.",
        ),
        (
            "But the [jar|bag|basket] [was empty|had a hole], and there was not enough.",
            "{He} was [in a hurry|dreaming], and {he} put in too much salt.",
            "But {he} forgot the time, and [smoke came from the oven|the kitchen was full of smoke].",
        ),
        ("{@worry}",),
        (
            'There was a knock at the door. It was {friend}. "[What smells so strange|What happened here]?" {fhe} asked.',
            "{Friend} [came in|looked in at the window] and saw {his} [sad|long] face.",
        ),
        (
            '"[We can try again|Nobody learns without mistakes]," said {friend}. "I will help you."',
            '"I have some more at home," said {friend}, and {fhe} [ran to fetch it|went to get it].',
        ),
        (
            "They [washed|cleaned] the [pots|bowls] and began again. {Hero} stirred, and {friend} [watched the fire|counted the spoons].",
            "This time they read every line twice. {Friend} [measured|weighed] and {hero} [mixed|stirred].",
        ),
        (
            "Soon the [whole house|kitchen] smelled wonderful, and {portion} stood on the table.",
            "When they took it from the fire, it was [warm and golden|better than before|just right].",
        ),
        (
            'They gave the first [piece|plate] to {other}, the {ojob}. "[Delicious|Wonderful]!" said {other_n}.',
            '{Other} came to taste it. "Nobody in {village} makes better {food}!" {ohe} said.',
            "{@share_food}",
        ),
        ("{@together}", "{@evening}", "A meal is best when two have made it."),
    ),
    "surprise": (
        (
            "It was {hero}'s birthday, but nobody said a word about it.",
            "{Hero} woke up and smiled. It was {his} birthday!",
        ),
        (
            '{He} went to {friend}. "I have no time today," said {friend_n}, and {fhe} [shut the door|hurried away].',
            '{He} met {friend} {at_place}. "[I am busy|I must go]," said {friend_n}, and {fhe} ran off [with a big bag|with something under {fhis} arm].',
        ),
        (
            "{He} went to {other}. {Other_n} only [coughed|smiled] and looked at the sky.",
            "{Other}, the {ojob}, [hid something behind {ohis} back|spoke only of the weather].",
        ),
        (
            '"They have all forgotten me," thought {hero}, and {he} [walked about slowly|felt lonely].',
            "{Hero} [sat down|walked about] all alone. {He} felt [sad|forgotten].",
        ),
        (
            "In the evening {he} came home and opened the door. It was dark. Then, all at once, there were [candles|lights] everywhere.",
            "When {he} came home, the windows were dark. {He} [lit a candle|opened the door].",
        ),
        (
            '"Surprise!" cried {friend} and {other}. "Happy birthday, {hero_n}!"',
            '"Happy birthday!" [shouted|sang] all {his} friends.',
        ),
        (
            "On the table stood {portion}, and beside it lay {a_thing} with a [red|blue|yellow] ribbon.",
            "There was {portion} for everyone, and {friend} gave {him} {a_thing}.",
        ),
        (
            '"So you did not forget," said {hero}, and {he} [laughed|wiped away a tear].',
            '"We had to keep it a secret," said {friend}. "That was the hardest part."',
        ),
        ("{@evening}", "It was the best birthday that {hero} ever had."),
    ),
    "sick friend": (
        (
            "{@day}, {hero} went to see {friend}. But {friend_n} was ill and lay in bed.",
            "{Hero} waited for {friend} {at_place}, but {friend_n} did not come. {Fhe} was ill in bed.",
        ),
        (
            '"My head hurts," {fhe} said [in a small voice|softly], "and I am cold."',
            "{Fhis} nose was [red|hot], and {fhe} [coughed|sneezed] all the time.",
        ),
        (
            '"I know what you need," said {hero}, and {he} ran [home|to {other}].',
            "{Hero} thought for a moment. Then {he} [put on {his} coat|ran out of the door].",
        ),
        (
            '{Other}, the {ojob}, gave {him} [herbs|honey|mint] and good advice. "[Warm food and rest|Sleep and warm tea]," {ohe} said.',
            '{He} asked {other} what to do. "Keep {fhim} warm," {@said} {other_n}.',
        ),
        (
            "{Hero} [cooked|made] {portion} and carried it [carefully|slowly] to {friend}. {He} took {a_thing} along, too.",
            "So {he} brought {portion} and {a_thing} to cheer {fhim} up.",
        ),
        (
            "{He} [sat by the bed|stayed all day] and [read a story|sang a song|told jokes].",
            "{He} [opened the window|lit the fire] and [washed the dishes|swept the floor].",
        ),
        (
            "After [two|three] days {friend} [felt better|could get up again].",
            "In the morning {friend} [opened {fhis} eyes|sat up] and [smiled|asked for more].",
        ),
        (
            '"It was not only the {food}," said {friend}. "It was your [kindness|company] that made me well."',
            '"[When you are ill, I will do the same|You are the best nurse in {village}]," said {friend}.',
        ),
        ("{@together}", "{@evening}"),
    ),
    "afraid of the dark": (
        (
            "{Hero} was [brave by day|not afraid of storms], but {he} was afraid of the dark.",
            "Every night {hero} lay awake {at_home}. {He} did not like the dark.",
        ),
        (
            "The [wind|floor|door] [creaked|whispered], and the shadows looked like [monsters|big hands].",
            "There was a [strange|black] shape in the corner, and it seemed to move.",
        ),
        ("{He} pulled the blanket over {his} [head|ears].", "{He} [held {his} breath|did not dare to move]."),
        (
            "The next day {he} told {friend}. {Friend} did not laugh.",
            '"Are you ever afraid?" {he} asked {friend}. "Of course," said {friend_n}. "Everyone is."',
        ),
        (
            '"Take my {thing}," said {friend}. "When you are afraid, hold it and think of me."',
            '{Friend} gave {him} {a_thing}. "It will [keep you company|remind you that you are not alone]," {fhe} said.',
        ),
        (
            "That night {hero} [got up|lit a candle] and [went to the corner|looked at the shape]. It was only [{his} coat|a chair|an old hat]!",
            "That night {he} held the {thing} [tight|in both hands] and [opened {his} eyes|looked around]. The monster was only [a coat on a hook|a chair].",
        ),
        (
            "{Hero} [laughed|had to laugh]. The dark was [only the day with its eyes closed|not so bad after all].",
            "After that the dark was [soft|quiet] and [kind|friendly].",
        ),
        (
            "Soon {he} gave the {thing} back to {friend}. {He} did not need it any more.",
            "The {thing} still [stands|lies] beside {his} bed, and {hero} sleeps [well|soundly].",
        ),
    ),
}
