"""Makes up sentences with named entities, for trying the code without a corpus.

Two small collections stand below, all of it written for this project: sentences whose entities are
marked as [Mara Elling|per], and patterns with a {slot} for names that are put together from
syllables. Names of people, places and companies share endings, and many are met once only, so that
a tagger has to look at spelling and context: `Halwick` may be a town, a surname or half a bank.
"""

import re
from collections.abc import Iterator

import numpy as np

TAGGED = """
The ferry to [Oster Bay|geo] was late again , and nobody on the pier seemed surprised .
[Mara Elling|per] has been mending clocks in [Tarnwick|geo] since [1987|tim] .
When the [Bank of Velmark|org] closed its doors on [Friday|tim] , a long queue formed outside .
My grandmother never trusted [Doctor Pell|per] , although he cured her cough twice .
[May|tim] was wet and [June|tim] was wetter , said the gardener .
[June Halloway|per] paints nothing but boats .
They may march in [March|tim] , if the roads are dry .
Nobody knows who built the bridge , but it is older than the town .
The [Harbour Workers Union|org] asked for two more cranes and a warm room .
[Sunday|tim] came , and with it the rain , the cousins and the accordion .
In [Lower Quell|geo] every second house has a blue door .
The letter was signed by [A. P. Morrow|per] and by nobody else .
[Quell Motors|org] , a maker of small tractors , lost money for the third year .
He read the report twice and then he used it to light the stove .
Snow fell on the [Karst Mountains|geo] from [Monday evening|tim] until [Wednesday|tim] .
The minister of trade , [Ilse Brandow|per] , flew to [Port Amsel|geo] without a speech .
Officials of the [Ministry of Rivers|org] counted the fish and went home .
Is [Velmark|geo] the capital , or is it [Tarnwick|geo] ?
Thirty pupils of [Elling School|org] planted a hedge along the railway .
The old lighthouse , which had been dark [for nine years|tim] , shone again .
""".strip().splitlines()

PATTERNS = """
{per} said the talks in {geo} would go on until {tim} .
{per} , who leads {org} , met workers in {geo} {tim} .
{org} will open an office in {geo} next to the old market .
{org} said {tim} that {number} people had lost their work .
A spokesman for {org} , {per} , called the plan a mistake .
{number} people were hurt when a bus left the road near {geo} {tim} .
The road from {geo} to {geo} was closed {tim} because of snow .
{per} was born in {geo} and moved to {geo} in {year} .
In {year} , {per} became the head of {org} .
Rain is expected in {geo} and {geo} {tim} .
The court in {geo} sent {per} to prison {tim} .
{org} and {org} agreed {tim} to build a bridge across the river .
Critics say {org} has done little for the farmers of {geo} .
{per} beat {per} in the final in {geo} .
Voters in {geo} go to the polls {tim} .
{geo} has a harbour , {number} mills and a museum of salt .
{per} and {per} wrote the first book about {geo} .
Police in {geo} said they had found the stolen pictures {tim} .
The price of bread in {geo} rose for the {number} th time since {year} .
{word} the rain , {number} people came to hear {per} speak in {geo} .
{word} the strike , {org} paid its workers in full .
The teacher asked , but {per} did not answer .
{org} bought {number} ships from {org} in {year} .
" We shall not sell , " said {per} of {org} .
Trains between {geo} and {geo} run every {number} minutes .
Nothing was heard of {per} after {tim} .
{name} was not mentioned in the report .
Everybody in the room had an opinion about {name} .
Without {name} there would have been no agreement , the paper wrote {tim} .
The story begins with {name} and ends with {name} .
""".strip().splitlines()

STARTS = "Hal Tarn Vel Oster Bran Quel Mor Lind Karl Pell Ros Gren Stav Tor Wes Alm Dun Ek Far Ing"
MIDDLES = ["", "", "", "en", "er", "is", "al", "o"]
SHARED = "wick berg mark ton ford stad holm by"  # endings of surnames and of places
SURNAMES = "sen man low ski ard " + SHARED
PLACES = "mouth haven dale " + SHARED
FIRST_NAMES = "Mara Ilse Tomas Edda Rufus Anselm Petra June April Nils Odo Karla Bruno Lene Victor"
TITLES = "President Minister Doctor Mr. Mrs. General Judge"
BUSINESSES = "Bank Motors Steel Airlines Press Radio University Club Mills Brothers"
PUBLIC = "Ministry Office Council Institute Union"
MATTERS = "Rivers Trade Labour Health Forests Roads"
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
MONTHS = "January February March April May June July August September October"
WORDS = "Despite Before During After Because_of"


class Maker:
    """Draws names and fills patterns with them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def pick(self, choices: str | list[str]) -> str:
        """Draw one of several words."""
        words = choices.split() if isinstance(choices, str) else choices
        return words[int(self.rng.integers(len(words)))]

    def number(self, low: int, high: int) -> str:
        """Draw a whole number, low <= number < high."""
        return str(self.rng.integers(low, high))

    def name(self, endings: str) -> str:
        """Put a name together."""
        return self.pick(STARTS) + self.pick(MIDDLES) + self.pick(endings)

    def per(self) -> str:
        """Make up a person."""
        first, last = self.pick(FIRST_NAMES), self.name(SURNAMES)
        title = f"{self.pick(TITLES)} {last}"
        return self.pick([f"{first} {last}", title, last, f"{first[0]}. {last}"])

    def geo(self) -> str:
        """Make up a place."""
        place = self.name(PLACES)
        return self.pick([place, place, place, f"{self.pick('Upper New Port Saint')} {place}"])

    def org(self) -> str:
        """Make up an organisation."""
        business = f"{self.name(SHARED)} {self.pick(BUSINESSES)}"
        public = f"{self.pick(PUBLIC)} of {self.pick(MATTERS)}"
        letters = "".join(self.pick(list("ABDEFGKLMNRSTUV")) for _ in range(3))
        return self.pick([business, business, f"the {public}", letters, self.name(SHARED)])

    def tim(self) -> str:
        """Make up a time."""
        day, month, date = self.pick(DAYS), self.pick(MONTHS), self.number(1, 29)
        return self.pick([f"on {day}", f"on {month} {date}", f"last {month}", f"late {day}"])

    def fill(self, pattern: str) -> str:
        """Put names, marked as in TAGGED, into the slots of a pattern."""

        def one(slot: re.Match[str]) -> str:
            kind = slot[1] if slot[1] != "name" else self.pick("per geo org")
            if kind == "number":
                return self.number(2, 100)
            if kind == "word":
                return self.pick(WORDS).replace("_", " ")
            if kind == "year":
                return f"[{self.number(1900, 2020)}|tim]"
            text = getattr(self, kind)()
            inside = re.sub("^(the|on|last|late) ", "", text)
            return f"{text.removesuffix(inside)}[{inside}|{kind}]"

        return re.sub(r"{(\w+)}", one, pattern)


def make_sentences(count: int, seed: int) -> Iterator[tuple[list[str], list[str]]]:
    """Yield words and tags of `count` sentences, no two the same."""
    maker, seen = Maker(seed), set()
    for text in TAGGED:
        seen.add(text)
        yield parse(text)
    while len(seen) < count:
        text = maker.fill(maker.pick(PATTERNS))
        text = text[:1].upper() + text[1:]
        if text not in seen:
            seen.add(text)
            yield parse(text)


def parse(text: str) -> tuple[list[str], list[str]]:
    """Return words and tags of a sentence whose entities are marked as [Mara Elling|per]."""
    words: list[str] = []
    tags: list[str] = []
    for marked, kind, plain in re.findall(r"\[(.+?)\|(\w+)\]|(\S+)", text):
        entity = marked.split() or [plain]
        words += entity
        tags += [f"{'I' if i else 'B'}-{kind}" if kind else "O" for i in range(len(entity))]
    return words, tags
