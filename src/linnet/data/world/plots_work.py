"""Why this exists: plots about work, learning and getting along with others. See `plots_home.py` for how a
plot is written and `phrases.py` for the slots.
"""

# ruff: noqa: E501  (a template is read as one line)

from __future__ import annotations

WORK_PLOTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "learning": (
        (
            "{@opening} {He} wanted to learn how to {skill}.",
            '{Hero} watched {friend} every day. "I want to {skill}, too," {he} said.',
            '"Can you teach me to {skill}?" {hero} asked {friend}.',
        ),
        (
            '"It is not hard," said {friend}, "but one must [practise|be patient]."',
            "{Friend} showed {him} how to do it, once, twice and a third time.",
        ),
        (
            "{Hero} tried, but [it went wrong|{he} made a mess]. {He} tried again, and [it was worse|it was no better].",
            "The first time it [went wrong|did not work]. The second time it [went wrong|did not work], too.",
        ),
        (
            '"I will never learn it!" cried {hero}, and {he} threw {his} {thing} [into the corner|on the ground].',
            '{Hero} sat down beside {his} {thing} and hid {his} face. "[I am too stupid|I give up]," {he} said.',
        ),
        (
            '"Do you know how often I failed?" asked {friend}. "A hundred times."',
            '{Friend} sat down beside {him}. "[Every master was once a beginner|I could not do it either at first]," {fhe} said.',
            '"[Nobody is too stupid|You are only tired]," said {friend}. "Rest a little, and then try [once more|again]."',
        ),
        (
            "So {hero} practised [every day|every morning], {at_place} and {at_home}.",
            "From then on {hero} practised a little every evening.",
        ),
        (
            "[One day|After a week|After a month] it worked! {Hero} could {skill}.",
            "And then, [one morning|on a rainy day], {he} could do it. {He} could {skill}!",
        ),
        (
            "{Friend} clapped {fhis} hands and gave {him} {a_thing2} [as a prize|to remember the day].",
            "{Friend} was so proud that {fhe} gave {him} {a_thing2}.",
        ),
        (
            "Now {hero} is teaching {other}, and {he} is very patient.",
            "Whenever {other} wants to give up, {hero} tells this story.",
        ),
    ),
    "the cart": (
        (
            "{@opening} {He} was pulling a cart with {a_thing} and {portion} to {friend}.",
            "{@day}, {hero} put {a_thing} and {portion} on a cart. {He} wanted to bring them to {friend}.",
        ),
        (
            "It had rained, and {at_place} the [wheel|cart] got stuck in the mud.",
            "But {at_place} the road was soft, and the cart [sank into|got stuck in] the mud.",
        ),
        (
            "{He} pulled. {He} pushed. The cart did not move.",
            "{He} pulled [with all {his} strength|until {he} was red in the face], but it was no use.",
        ),
        ("{@comes_by}",),
        (
            "{Other} pulled, and {hero} pushed, but the cart [stayed where it was|only sank deeper].",
            '"I will help you," said {other}. Together they pulled, and still it [did not move|was stuck].',
        ),
        (
            'Then {friend} came to see [where {he} was|why {he} was late]. "Put [a plank|some straw] under the wheel," {fhe} said.',
            'Then {friend} came along. {Fhe} had a good idea. "We need [stones|a plank] under the wheel," {fhe} said.',
        ),
        (
            '"One, two, three!" they called, and all three pulled. Slowly the wheel [turned|came out].',
            "They tried once more, all together, and out came the cart with a [loud|big] plop.",
        ),
        (
            "They were [muddy from head to foot|covered with mud], but the {thing} was safe.",
            "The {thing} had not even a scratch, and the supper was still warm.",
        ),
        ("{@share_food}", "{@laugh}", "What one cannot do alone, three can do together."),
    ),
    "the seed": (
        (
            '{Other}, the {ojob}, gave {hero} a [tiny|small] seed. "[Take good care of it|Be patient]," {ohe} said.',
            "{@scene} There {he} found a [tiny|strange] seed, and {he} put it into {his} pocket.",
        ),
        (
            "{Hero} [put|planted] it in a pot and set it beside {his} {thing}.",
            "{Hero} [dug a hole|made a little bed of earth], [put|laid] the seed in and marked the place with {his} {thing}.",
        ),
        (
            "{He} [watered it|looked at it] every day. But [nothing happened|nothing grew].",
            "A day went by, then a week. There was nothing to see but earth.",
        ),
        (
            '"[It is dead|It will never grow]," {he} said to {friend}. "I will throw it away."',
            '{Friend} [laughed|asked], "Why do you water a pot of earth?"',
        ),
        (
            '"Wait a little longer," said {other}. "[Good things take time|Seeds wake up slowly]."',
            'But {other} told {him} to wait. "The best things are slow," {ohe} said.',
        ),
        (
            "So {hero} waited. And one morning there was a tiny green [leaf|point].",
            "{Hero} waited and watered. At last, after the rain, two [small|green] leaves came up.",
        ),
        (
            "It grew [and grew|taller and taller], until it was a [sunflower|bean plant|rose bush] as high as the [door|window].",
            "By summer it was a great [sunflower|pumpkin|bean plant], and everyone came to see it.",
        ),
        (
            '{Hero} gave [half of the new seeds|a handful of new seeds] to {friend}. "[Be patient|Take good care of them]," {he} said [with a smile|and winked].',
            '"Now I understand," said {friend}, and {fhe} asked for a seed of {fhis} own.',
        ),
        ("{@evening}", "{@together}"),
    ),
    "too much": (
        (
            "{Other} made {portion} for [the feast|the whole village] and put it {at_place}.",
            "There stood {portion} {at_place}. {Other}, the {ojob}, had made it for the feast.",
        ),
        (
            '{Hero} loved {food}. "I will [taste|take] only a little," {he} thought.',
            'It smelled so good that {hero} could not [walk past|wait]. "Just one bite," {he} said.',
        ),
        (
            "One bite became two, and two became ten, until [nothing was left|all of it was gone].",
            "{He} ate and ate, and soon there was nothing left but crumbs.",
        ),
        (
            'Then {his} tummy began to hurt. "Oh, oh," {he} [moaned|groaned].',
            "Soon {he} felt [ill|terrible]. {He} had to lie down for a while.",
        ),
        (
            '"Who ate the {food}?" asked {other}. Nobody spoke. {Friend} looked at {hero}.',
            "The others came with empty plates. {Friend} was [hungry|sad], and {hero} [turned red|looked at the floor].",
        ),
        (
            '"It was I," said {hero}. "I am [so sorry|very sorry]. I will make it good."',
            '{Hero} stood up. "I did it," {he} said. "I was greedy, and I am sorry."',
        ),
        (
            "{He} gave {other} {his} own {thing}, and then {he} [washed all the plates|worked in the kitchen all evening].",
            "{He} sold {his} {thing} to buy {parts}, and {he} helped {other} to cook again.",
        ),
        (
            "This time everyone had a plate, and {hero} took the smallest.",
            "When it was ready, {hero} served [everyone|{friend} first] and took only a little {himself}.",
        ),
        (
            '"[It tastes better when we share|A little shared is more than a lot alone]," {he} said.',
            "{@evening}",
        ),
    ),
    "the fib": (
        (
            '{Hero} [liked|loved] to tell tall stories. One day {he} ran to {friend}. "There is a [dragon|giant] {at_place}!" {he} cried.',
            '{@day}, {hero} was bored. So {he} shouted, "[Fire|Help]! There is a fire {at_place}!"',
        ),
        (
            "{Friend} and {other} dropped everything and ran. But there was nothing there but {a_thing}.",
            "Everyone came running, {friend} first of all. They found only {a_thing}, and {hero} [laughed|rolled on the floor with laughter].",
        ),
        (
            '"That was not funny," said {friend}. "[You frightened us|We were afraid for nothing]."',
            '{Other}, the {ojob}, shook {ohis} head. "One day nobody will believe you," {ohe} said.',
        ),
        (
            "The next day {he} did it again, and again they came for nothing.",
            "{Hero} only [grinned|laughed], and a week later {he} did it once more.",
        ),
        (
            'Then one evening {hero} fell into a [hole|ditch] {at_next} and could not get out. "Help!" {he} called. Nobody came.',
            'Then a real [wind|flood] came and {hero} was caught {at_next}. "Help!" {he} cried. But everyone thought that it was a joke.',
        ),
        (
            "It was [dark|nearly dark] when {friend} came by and heard {him}. {Fhe} let down a rope.",
            "Only {friend} [could not sleep|had a strange feeling] and went to look. {Fhe} pulled {him} out.",
        ),
        (
            '"Why did nobody come?" asked {hero}. "You know why," said {friend}.',
            '"I called and called," {hero} [sobbed|said]. "How could we know that it was true?" asked {friend}.',
        ),
        (
            "From that day {hero} told tall stories only by the fire, and {he} always said that they were stories.",
            "{Hero} said sorry to everyone, to {other} as well. After that {he} kept to the truth.",
        ),
    ),
    "new neighbour": (
        (
            "{Friend} was new in {village}. {Fhe} had just come to live {at_fhome} and knew nobody.",
            "A new neighbour had come to {village}. It was {friend}, and {fhe} lived {at_fhome}.",
        ),
        (
            "{Fhe} was shy and [kept the curtains closed|spoke to no one].",
            'Some said, "[{Fhe} is strange|{Fhe} never smiles]." But nobody had [asked|talked to] {fhim}.',
        ),
        (
            '{Hero} thought, "[It must be hard to be new|I was new here once]." So {he} [made|took] {portion} and [knocked|went to the door].',
            "{Hero}, the {job}, decided to pay a visit. {He} took {portion} [along|under {his} arm].",
        ),
        (
            'The door opened [a little|just a crack]. "Good [day|morning]," said {hero}. "Do you like {food}?"',
            '"Welcome to {village}," said {hero}. "I brought you some {food}."',
        ),
        (
            "{Friend} [looked at the {food}|said nothing at first]. Then {fhe} [smiled|opened the door wide].",
            '"For me?" asked {friend}. {Fhis} eyes [shone|were wet].',
        ),
        (
            'Inside there was {a_thing}. "My grandmother gave it to me," {@said} {friend}.',
            '{Hero} saw {a_thing} on the shelf. "I made it myself," said {friend} [shyly|quietly].',
        ),
        (
            "They [talked|looked at the {thing} and talked] until it was dark.",
            "They talked about the {thing}, the {food} and the [weather|sea].",
        ),
        (
            "The next day {hero} took {fhim} to {place} to meet {other}, the {ojob}.",
            "The next morning {other} came as well, and soon the [house|room] was full of [laughter|guests].",
        ),
        ("{@together}", "Now nobody can imagine {village} without {friend}."),
    ),
    "stuck": (
        (
            "{@scene} {He} was playing with {a_thing} when the wind [took it|carried it away].",
            "{@day}, {hero} and {friend} were throwing {a_thing} high into the air.",
        ),
        (
            "Up it went, and it got stuck in [the tallest tree|a high tree] {at_place}.",
            "It [flew onto|landed on] a high roof not far from {place}, and it did not come down.",
        ),
        (
            "{Hero} jumped, but it was too high. {He} threw a [stick|pebble], but {he} missed.",
            "{He} called to it and jumped and jumped, but the {thing} did not move.",
        ),
        (
            '"Climb on my back," said {friend}. They [wobbled|swayed] and fell into the [grass|leaves].',
            "{Friend} tried with a long stick, but the stick broke.",
        ),
        ("{@comes_by} {@asks}",),
        (
            '"Our {thing} is up there," said {hero}, "and we cannot reach it."',
            '{Hero} pointed up. "My {thing} is stuck," {he} said.',
        ),
        (
            '{Other} went home and came back with a [tall|long] ladder. "Hold it [tight|still]," {ohe} said, and {ohe} climbed up.',
            '"Strength is not enough here," said {other}. "[We need a ladder|A ladder will do]." And {ohe} fetched one.',
        ),
        (
            "A moment later the {thing} was down again, [without a scratch|a little dusty, but whole].",
            "{Hero} held the ladder, and soon the {thing} [fell|came down] into {his} arms.",
        ),
        ("{@thanks}",),
        ("{@share_food}", "{@together}", "After that they played only in the open meadow."),
    ),
    "the wish": (
        (
            'One night {hero} saw a star fall over {place}. "[I can make a wish|A wish]!" {he} said.',
            "{Hero} and {friend} were lying on their backs {at_place}, looking at the stars. One of them fell.",
        ),
        (
            "{He} wished for {a_thing}. {He} had wanted one for a long time.",
            '"I wish I had {a_thing}," said {hero} [quietly|to {himself}].',
        ),
        (
            "The next day {he} [looked in every corner|opened the door], but there was no {thing}.",
            "In the morning there was no {thing} on the [table|doorstep], only the [wind|sun].",
        ),
        (
            '"Wishes do not come true," {he} said to {friend}.',
            '{He} told {friend} about it. "[Stars do not listen|It was only a stone]," {he} said.',
        ),
        (
            "{Friend} said nothing. But {fhe} went to {other}, the {ojob}, and [asked for help|talked with {ohim} for a long time].",
            "But {friend} had an idea. {Fhe} worked for {other}, the {ojob}, [for a whole week|every afternoon].",
        ),
        (
            "A week later there lay {a_thing} [before {his} door|on {his} bed], with no name on it.",
            "One morning {hero} found {a_thing} on the doorstep. It [shone|lay] in the morning sun.",
        ),
        (
            '"My wish came true!" {he} cried. {Friend} [only smiled|smiled and said nothing].',
            '{He} ran to {friend} to show it. "The star heard you," said {friend_n}, and {fhe} winked.',
        ),
        (
            "But {hero} saw [the paint|the blisters] on {friend_n}'s hands, and {he} understood. {He} [hugged {fhim}|took {fhis} hand].",
            "It was {other} who told {him} the truth. {Hero} thought: a friend is better than a star.",
        ),
        ("{@evening}", "{@together}"),
    ),
}
