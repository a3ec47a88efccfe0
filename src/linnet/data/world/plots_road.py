"""Why this exists: plots that happen on the road and in all weathers. See `plots_home.py` for how a plot is
written and `phrases.py` for the slots.
"""

# ruff: noqa: E501  (a template is read as one line)

from __future__ import annotations

ROAD_PLOTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "journey": (
        (
            "{@opening} {He} had to carry {a_thing} to {friend}, who lived {at_fhome}.",
            "{@day}, {hero} packed {a_thing} into a bag. {He} wanted to bring it to {friend}, who lived {at_fhome}.",
        ),
        ("It was a long way, [over hills and fields|past {next_place} and farther still].", "{@scenery}"),
        (
            "First {he} walked past {place}. Then the path [went up and up|became narrow|split in two].",
            "{He} walked and walked. {At_place} {he} [rested for a while|ate a little {food}].",
        ),
        (
            "Then {he} came to a stream, and [the plank was gone|there was no bridge].",
            "But a big [tree|rock] lay across the road, and {he} could not pass.",
            "But fog came down, and {he} could not see [the path|{his} own feet].",
        ),
        ("{@worry}", "{He} did not want to turn back."),
        ("{@comes_by}",),
        (
            '"[I know another way|Follow me]," said {other}. "[I have walked here all my life|It is not far]."',
            '"[Take my hand|Hold on to me]," said {other}. "We will go [step by step|slowly]."',
        ),
        (
            "So they went on together, and soon they [saw the light of a window|were on the other side].",
            "Together they [found the road|got across], [wet but happy|step by step].",
        ),
        (
            '{Friend} stood at the door. "You came all this way to bring me {a_thing}!" {fhe} cried.',
            '"Here is the {thing}," said {hero}. {Friend} [could hardly believe it|was full of joy].',
        ),
        ("{@share_food}", "{@together}", "The way home seemed only half as long."),
    ),
    "storm": (
        (
            "{@scene} Then the sky [grew dark|turned grey|turned black].",
            "{Hero} was {at_place} when the storm came.",
            "Black clouds came over the hills. {Hero} [was far from home|was still {at_place}] with {his} {thing}.",
        ),
        (
            "The wind [howled|roared], and the rain [came down hard|beat on the roofs].",
            "Thunder [rolled|rumbled] over the [hills|sea], and lightning [flashed|lit the sky].",
        ),
        (
            "{He} held {his} {adj} {thing} [tight|under {his} coat] and ran.",
            "The wind [pulled at|tore at] {his} {thing}, but {hero} did not let go.",
        ),
        (
            "At last {he} saw a light. It was the house of {friend}. {He} knocked [three times|loudly].",
            "{He} came to the door of {friend} and knocked. {He} was [wet to the skin|cold and wet].",
        ),
        (
            '"Come in, come in!" [said|called] {friend}. "[You are soaked|Sit by the fire]!"',
            "{Friend} opened the door {@quick_f} and [pulled {him} in|gave {him} a dry towel].",
        ),
        (
            "They sat by the fire and [drank hot tea|ate {food}] while the storm [raged|shook the windows].",
            "{Friend} put a warm blanket round {him}, and they listened to the [rain|wind].",
        ),
        (
            "In the morning the sky was [blue|clear] again, but the roof of {other}, the {ojob}, was broken.",
            "The next day everything was [still|calm]. But the storm had [broken|blown away] the fence of {other}, the {ojob}.",
        ),
        (
            '"You helped me, and now I will help," said {hero}. {He} and {friend} [fetched nails|worked until noon].',
            "So {hero} and {friend} [took a hammer and nails|went to help], and by evening [all was mended|the work was done].",
        ),
        ("{@evening}", "{@together}", '"After a storm," said {other}, "one sees who one\'s friends are."'),
    ),
    "trade": (
        (
            "{Hero} had {a_thing}, but {he} [needed|wanted] {a_thing2}.",
            "{@day}, {hero} took {his} {adj} {thing} to the market. {He} wanted {a_thing2}.",
        ),
        ("{@scenery}", "The market was full of [voices|carts|baskets]."),
        (
            '{He} asked {friend}, "Will you give me {a_thing2} for my {thing}?"',
            '{He} saw {a_thing2} among the things of {friend}. "I will give you my {thing} for it," {he} said.',
        ),
        (
            '"I do not need a {thing}," said {friend}, "but I would like some {food}."',
            '{Friend} shook {fhis} head. "What I want is {portion}," {fhe} said.',
        ),
        (
            "So {hero} went to {other}, the {ojob}, who had {portion}.",
            "{Hero} [thought for a while|was not discouraged]. {He} knew that {other} had {portion}.",
        ),
        (
            '"[A {thing} is just what I need|I have looked for a {thing} for weeks]!" said {other}, and {ohe} gave {him} the {food}.',
            "{Other} was [happy|glad] to have the {thing}, and {ohe} gave {him} {portion}.",
        ),
        (
            "{Hero} carried it back to {friend}, and {friend} gave {him} the {thing2}.",
            "Then {he} ran back, gave the {food} to {friend} and got the {thing2}.",
        ),
        (
            "Now all three had what {@they_wanted}.",
            "In the end everyone was [happy|content], and nobody had paid a single coin.",
        ),
        ("{@evening}", "{Hero} walked home with the {thing2} and [whistled|sang] all the way."),
    ),
    "race": (
        (
            "There was to be a race from {place} to {next_place}, and the prize was {a_thing}.",
            "{@day}, everyone came to see the great race. The prize was {a_thing}.",
        ),
        (
            "{Hero} was not [fast|quick], but {he} wanted to try. {Friend} was the fastest of all.",
            '"I am sure to win," said {friend}. {Hero} said nothing and tied {his} shoes.',
        ),
        (
            '"One, two, three, go!" called {other}, the {ojob}.',
            "{Other} [rang a bell|waved a flag], and off they went.",
        ),
        (
            "{Friend} [ran ahead|was soon far in front] and looked back and laughed.",
            "At first {friend} was in front, and {hero} was [far behind|the last].",
        ),
        (
            "But {friend} [stopped to rest|lay down in the shade], and {fhe} fell asleep.",
            "But {friend} [stepped into a hole|fell over a stone] and hurt {fhis} foot.",
        ),
        (
            '{Hero} could have run past. But {he} stopped. "[Get up|Come], {friend_n}," {he} said. "[Lean on me|We will go on together]."',
            '{Hero} saw {fhim} and stopped. "A race is only a race," {he} said, and {he} helped {fhim} up.',
        ),
        (
            "Side by side they [came to|crossed] the line, last of all, and everyone [cheered|clapped].",
            "They reached the end together, and the [crowd|whole village] cheered for them.",
        ),
        (
            '{Other} gave the {thing} to {hero}. "[There are many ways to win|A kind heart wins every race]," {ohe} said.',
            "The {thing} went to {hero}, because {he} had been [kind|a good friend]. {He} shared it with {friend}.",
        ),
        ("{@together}", "{@laugh}"),
    ),
    "little lost one": (
        (
            "{@scene} Then {he} heard a small [cry|voice] [behind a bush|in the reeds|under a cart]. It was a duckling.",
            "{@day}, {hero} found a [tiny|lost] duckling {at_place}. It was all alone.",
        ),
        (
            "The little duckling was [wet|cold] and [shaking|hungry]. It had lost its mother.",
            '"Peep," it said [sadly|softly]. It could not find its [mother|way home].',
        ),
        (
            "{Hero} [wrapped|warmed] it in {his} scarf and gave it a little {food}.",
            '{Hero} [picked it up|sat down beside it] [gently|with care]. "[Do not be afraid|I will help you]," {he} said.',
        ),
        (
            "{He} asked {friend} for help. {Friend} brought {a_thing} [to keep it busy|to make it laugh].",
            "{Friend} came to help. {Fhe} made a soft bed for it beside {a_thing}.",
        ),
        (
            "They asked {at_place} and {at_next}, but nobody [knew|had seen] the mother.",
            "First they went to {place}, then to {next_place}, and [called|asked] at every door.",
        ),
        (
            'At last {other}, the {ojob}, said, "I [saw|heard] a duck at the pond. She was [crying|calling] all day."',
            '"A duck asked me for her little one," said {other}. "She is waiting at the pond."',
        ),
        (
            "They ran to the pond, and the mother [spread her wings|swam to meet them].",
            "And there she was! The duckling [jumped into the water|peeped for joy] and [swam|ran] to its mother.",
        ),
        (
            '"Thank you," said the mother duck. "[You have kind hearts|I will never forget it]."',
            "{Hero} and {friend} [waved|stood and watched] until the two were [out of sight|far away].",
        ),
        ("{@evening}", "{@together}"),
    ),
    "strange sound": (
        (
            "One night {hero} heard a strange sound {at_place}. [Tap, tap, tap|Hoo, hoo|Bump, bump], it went.",
            "There was a strange sound {at_place} every night. [Knock, knock|Creak, creak|Clang, clang], it went.",
        ),
        (
            '"It must be a [ghost|giant]," {@said} {friend}. "[I will not go there|Let us stay at home]."',
            '{Friend} [pulled the blanket over {fhis} head|hid under the table]. "It is a [ghost|monster]!" {fhe} said.',
        ),
        (
            '"I do not believe it," said {hero}. "[Come with me|Let us go and look]."',
            "{Hero} was afraid too, but {he} wanted to know the truth.",
        ),
        (
            "So they took a lantern and [went out|crept] into the night. {@night}",
            "They walked [slowly|on tiptoe] through the dark. {@night}",
        ),
        ("The sound came [nearer|closer] and [nearer|closer].", "Their hearts [beat fast|went bump, bump]."),
        (
            "{Hero} [lifted the lantern|pushed the door open]. There was {a_thing}, and the wind [blew it against the wall|made it swing to and fro].",
            "{Hero} held up the light. It was only {a_thing}! The wind [moved it|knocked it against a stone].",
        ),
        (
            "{@laugh}",
            '"So this is our ghost," said {hero}. "A {thing}!"',
        ),
        (
            "It belonged to {other}, the {ojob}, who had forgotten it there. {Ohe} was glad to have it back.",
            'In the morning they brought the {thing} to {other}. "I have looked for it everywhere," {ohe} said.',
        ),
        (
            "Things are often less terrible when one [looks at them|brings a light].",
            "{@together}",
            "{@evening}",
        ),
    ),
    "the letter": (
        (
            "{@opening} {He} had a letter for {friend}, who lived {at_fhome}.",
            '{@day}, {other} gave {hero} a letter. "Please bring it to {friend}," {ohe} said. "It is important."',
        ),
        (
            "{He} put the letter into {his} [bag|pocket] and set off {@quick}.",
            "{He} held the letter [in both hands|close to {his} heart] and set off.",
        ),
        (
            "{At_place} {he} saw {a_thing} on a bench, and {he} stopped to look at it. {He} [forgot the time|stood there for a long time].",
            "On the way {he} stopped {at_place} to play with {a_thing}. The clock [struck|rang], but {he} did not hear it.",
        ),
        (
            "Then it began to rain, and the letter [got wet|fell into a puddle].",
            "Then the wind took the letter and [blew it over the wall|carried it away].",
        ),
        ("{@worry}",),
        (
            "{He} ran after it {@quick}, through [mud|puddles] and [nettles|wet grass], until {he} [caught|had] it.",
            "{He} [dried it|wiped it] with {his} sleeve and ran {@quick}.",
        ),
        (
            '"I am late, and the letter is [wet|dirty]," {he} said to {friend}. "I am sorry. I stopped to play."',
            '{He} told {friend} the truth. "I stopped on the way," {he} said, "and I am sorry."',
        ),
        (
            '{Friend} opened the letter. It said: "[Come to supper tonight, and bring the one who brings this|There will be {food} for you and for the one who brings this]."',
            '{Friend} read it and laughed. "It says that we are both invited to eat {food} tonight!"',
        ),
        (
            "So the day ended with {food} after all.",
            "{@evening}",
            "Next time {hero} did not stop on the way.",
        ),
    ),
    "snow": (
        (
            "It had snowed all night, and {village} was [white|quiet and white].",
            "One winter morning {hero} looked out of the window. Everything was white.",
        ),
        (
            '{Hero} [put on|pulled on] {his} [warm boots|thick coat] and ran to {friend}. "Come out!" {he} called.',
            "{Hero} met {friend} {at_place}. Their noses were [red|cold], but they were happy.",
        ),
        (
            "They [built a snowman|made a big snowman] and gave it {a_thing}.",
            "They rolled a ball of snow until it was as tall as {hero}. They put {a_thing} on top.",
        ),
        (
            "Then they heard {other}, the {ojob}, calling. {Ohis} door was [blocked by|full of] snow, and {ohe} could not get out.",
            'Then {friend} saw that there was no smoke from the house of {other}. "[Something is wrong|Let us look]," {fhe} said.',
        ),
        (
            "{Hero} and {friend} [took shovels|began to dig] and dug [a path|a way] to the door.",
            "They dug and dug until their [arms|backs] hurt, and at last the door was free.",
        ),
        (
            '"My wood is wet, and I am so cold," said {other}. So they [brought dry wood|made a fire].',
            "{Other} was [cold|hungry], so they [lit the fire|fetched dry wood] and cooked {food}.",
        ),
        (
            '"What good [neighbours|friends] I have," said {other}.',
            "{Other} thanked them [again and again|with all {ohis} heart].",
        ),
        (
            "[Outside|In the moonlight] the snowman with the {thing} [kept watch|seemed to smile].",
            "The next day the sun came out, and only the {thing} was left of the snowman.",
        ),
    ),
}
