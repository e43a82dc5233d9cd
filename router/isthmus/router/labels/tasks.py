"""Everyday tasks with their graders: what a small model is asked besides knowledge questions.

Small talk, rewriting, short extraction, reading, formatting, counting and the like, made from word
lists with a fixed seed: the same rows every time, of our own text. What they are for is to measure
a pair of models where the small one has a chance (`isthmus bench routing`); nothing is trained into
any model from them, and no kind is left out because a model fails at it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

PER_KIND = 18
"""Rows of each kind."""
_SEED = 20_26

Row = dict[str, Any]
Make = Callable[[random.Random], Row]


def tasks() -> list[Row]:
    """The rows `{id, source, domain, prompt, grader, answer?, labels?, rubric?}`, always the same.

    `source` is the kind. Prompts of a kind differ from each other.
    """
    return [row for kind in KINDS for row in _of_kind(kind)]


def _of_kind(kind: str) -> Iterator[Row]:
    rng = random.Random(f"{_SEED} {kind}")
    made: set[str] = set()
    for _ in range(1000 * PER_KIND):
        if len(made) == PER_KIND:
            return
        row = KINDS[kind](rng)
        if row["prompt"] not in made:
            named = {"id": f"{kind}-{len(made):02}", "source": f"task-{kind}", "domain": "task"}
            made.add(row["prompt"])
            yield named | row
    raise ValueError(f"{kind} has no {PER_KIND} different rows")


_NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Iris", "Jack")
_CITIES = ("Berlin", "Cairo", "Lima", "Madrid", "Oslo", "Paris", "Rome", "Tokyo", "Vienna", "Delhi")
_COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown", "orange")
_THINGS = ("car", "bag", "hat", "coat", "bike", "cup", "chair", "scarf", "door", "boat")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_FOODS = ("apple", "banana", "bread", "cheese", "grape", "lemon", "onion", "pear", "rice", "soup")
_ANIMALS = ("cat", "dog", "horse", "rabbit", "duck", "sheep", "goat", "parrot")
_JOBS = ("teacher", "nurse", "baker", "driver", "farmer", "painter", "singer", "gardener")


def _contains(prompt: str, answer: str) -> Row:
    return {"prompt": prompt, "grader": "contains", "answer": answer}


def _short(prompt: str, answer: str, *, words: int) -> Row:
    """As `_contains`, for an answer of at most so many words: echoing the text does not count."""
    return _rubric(prompt, all_of=[answer], max_words=words)


def _number(prompt: str, answer: int) -> Row:
    return {"prompt": prompt, "grader": "number", "answer": str(answer)}


def _rubric(prompt: str, **rules: Any) -> Row:
    return {"prompt": prompt, "grader": "rubric", "rubric": rules}


def _small_talk(rng: random.Random) -> Row:
    name, greeting = rng.choice(_NAMES), rng.choice(("Hello!", "Hi there.", "Good morning!", "Hey"))
    welcome = ["welcome", "glad", "happy", "pleasure", "anytime", "help", "thank"]
    meet = ["hello", "hi", "nice", "meet", "good", "great", "help", "pleasure", "welcome"]
    return rng.choice((
        _rubric(f"{greeting} My name is {name}.", any_of=meet, max_words=120),
        _rubric(f"{greeting} I'm {name}. What is my name?", all_of=[name], max_words=80),
        _rubric(f"{name} here. Thank you for your help!", any_of=welcome, max_words=120),
        _rubric(f"Say goodbye to {name} in one short sentence.", all_of=[name],
                any_of=["goodbye", "bye", "farewell", "see you", "take care"], max_words=40),
        _rubric(f"Wish {name} a happy birthday in one sentence.", all_of=["birthday", name],
                max_words=60),
        _rubric(f"Write one sentence that says hello to {name} from {rng.choice(_CITIES)}.",
                all_of=[name], any_of=["hello", "hi", "greetings", "hey", "welcome"], max_words=60),
    ))  # fmt: skip


def _sentiment(rng: random.Random) -> Row:
    good = rng.random() < 0.5
    thing = rng.choice(("film", "hotel", "phone", "meal", "book", "concert"))
    text = rng.choice(
        (f"I loved this {thing}, it was wonderful.", f"The best {thing} of my life!",
         f"What a great {thing}. I would choose it again at once.")
        if good else
        (f"I hated this {thing}, it was awful.", f"The worst {thing} of my life!",
         f"What a terrible {thing}. A complete waste of money.")
    )  # fmt: skip
    right, wrong = ("positive", "negative") if good else ("negative", "positive")
    ask = f"Is this review positive or negative? Answer with one word.\nReview: {text}"
    return _rubric(ask, all_of=[right], none_of=[wrong])


def _yes_no(rng: random.Random) -> Row:
    name, thing = rng.choice(_NAMES), rng.choice(_THINGS)
    has, asked = rng.sample(_COLOURS, 2)
    yes = rng.random() < 0.5
    ask = (
        f"{name} has a {has} {thing}.\nQuestion: Is the {thing} {has if yes else asked}? "
        "Answer with yes or no only."
    )
    right, wrong = ("yes", "no") if yes else ("no", "yes")
    return _rubric(ask, all_of=[right], none_of=[wrong])


def _extraction(rng: random.Random) -> Row:
    name, city, day = rng.choice(_NAMES), rng.choice(_CITIES), rng.choice(_DAYS)
    number, hour = rng.randrange(1000, 9999), rng.randrange(2, 12)
    text = f"Order {number} for {name} will be delivered to {city} on {day} at {hour} o'clock."
    what, answer = rng.choice((
        ("the order number", str(number)), ("the city", city), ("the day of the week", day),
        ("the customer's first name", name),
    ))  # fmt: skip
    return _short(f"Write only {what} from this message: {text}", answer, words=8)


def _reading(rng: random.Random) -> Row:
    (one, two), (job, other) = rng.sample(_NAMES, 2), rng.sample(_JOBS, 2)
    city, animal = rng.choice(_CITIES), rng.choice(_ANIMALS)
    text = (
        f"{one} is a {job} and lives in {city}. {two} is a {other}. Every evening {two} walks "
        f"with a small {animal} while {one} reads."
    )
    ask, answer = rng.choice((
        (f"Where does {one} live?", city), (f"What is {two}'s job?", other),
        ("Who walks in the evening?", two), (f"Which animal does {two} walk with?", animal),
    ))  # fmt: skip
    return _short(f"{text}\nQuestion: {ask} Answer in a few words.", answer, words=15)


def _copying(rng: random.Random) -> Row:
    text = (
        f"The {rng.choice(_COLOURS)} {rng.choice(_ANIMALS)} sleeps under the "
        f"{rng.choice(_COLOURS)} {rng.choice(_THINGS)}."
    )
    return _contains(f"Repeat this sentence exactly, and nothing else: {text}", text)


def _letter_case(rng: random.Random) -> Row:
    text = f"{rng.choice(_COLOURS)} {rng.choice(_THINGS)}"
    if rng.random() < 0.5:
        return _rubric(f"Write this in capital letters: {text}", matches=text.upper())
    return _rubric(f"Write this in small letters: {text.upper()}", matches=text)


def _list_format(rng: random.Random) -> Row:
    items = rng.sample(_FOODS, 3)
    ask = f"Write these as a numbered list, one on each line: {', '.join(items)}"
    lines = r"\s*\n+\s*".join(rf"{place}[.)]\s*\W*{item}\W*" for place, item in enumerate(items, 1))
    return _rubric(ask, matches=f"(?i){lines}")


def _sorting(rng: random.Random) -> Row:
    items = rng.sample(_FOODS, 3)
    ask = f"Sort these words in alphabetical order, separated by commas: {', '.join(items)}"
    return _contains(ask, " ".join(sorted(items)))


def _as_json(rng: random.Random) -> Row:
    name, age = rng.choice(_NAMES), rng.randrange(20, 60)
    ask = f'Write this as one JSON object with the keys "name" and "age": {name} is {age}.'
    pattern = rf'"name"\s*:\s*"{name}"\s*,\s*"age"\s*:\s*"?{age}\b'
    return _rubric(ask, matches=pattern)


_POLITE = (
    ("Give me the book.", "book"), ("Close the window.", "window"), ("Send the report.", "report"),
    ("Be quiet.", "quiet"), ("Move your car.", "car"), ("Wait here.", "wait"),
    ("Call me back.", "call"), ("Show me the map.", "map"), ("Turn down the music.", "music"),
    ("Answer my question.", "question"), ("Bring some water.", "water"), ("Sign the form.", "sign"),
)  # fmt: skip
_PAST = (
    ("I walk to school.", "I walked"), ("She plays the piano.", "She played"),
    ("We visit our friends.", "We visited"), ("He cooks dinner.", "He cooked"),
    ("They open the door.", "They opened"), ("You ask a question.", "You asked"),
    ("I go to the market.", "I went"), ("She eats an apple.", "She ate"),
    ("We see the sea.", "We saw"), ("He writes a letter.", "He wrote"),
    ("They buy bread.", "They bought"), ("I drink tea.", "I drank"),
)  # fmt: skip


def _rewriting(rng: random.Random) -> Row:
    if rng.random() < 0.5:
        rude, word = rng.choice(_POLITE)
        polite = ["please", "could you", "would you", "may I", "kindly", "would you mind"]
        ask = f"Rewrite this sentence so that it is polite: {rude}"
        return _rubric(ask, all_of=[word], any_of=polite, max_words=60)
    now, then = rng.choice(_PAST)
    return _contains(f"Rewrite this sentence in the past tense: {now}", then)


_MISSPELT = (
    ("recieve", "receive"), ("tommorow", "tomorrow"), ("definately", "definitely"),
    ("freind", "friend"), ("becuase", "because"), ("beleive", "believe"), ("wierd", "weird"),
    ("untill", "until"), ("seperate", "separate"), ("adress", "address"), ("hapy", "happy"),
    ("libary", "library"), ("calender", "calendar"), ("begining", "beginning"),
)  # fmt: skip


def _spelling(rng: random.Random) -> Row:
    if rng.random() < 0.6:
        wrong, right = rng.choice(_MISSPELT)
        return _short(f"Correct the spelling of this word: {wrong}", right, words=12)
    word = rng.choice((*_ANIMALS, *_THINGS))
    ask = f"Spell the word {word} with a hyphen between the letters."
    return _contains(ask, " ".join(word))


def _counting(rng: random.Random) -> Row:
    items = rng.sample(_FOODS, rng.randrange(2, 7))
    if rng.random() < 0.5:
        listed = ", ".join(items)
        ask = f"How many things are in this list? {listed}. Answer with a number."
    else:
        ask = f'How many words are in "{" ".join(items)}"? Answer with a number.'
    return _short(ask, str(len(items)), words=12)


def _small_sums(rng: random.Random) -> Row:
    a, b = rng.randrange(2, 30), rng.randrange(2, 20)
    if rng.random() < 0.5:
        return _number(f"What is {a} + {b}? Answer with the number only.", a + b)
    return _number(f"What is {a + b} - {b}? Answer with the number only.", a)


_LISTS = (
    ("the days of the week", _DAYS), ("the four seasons", ("spring", "summer", "winter")),
    ("the months of the year", ("January", "April", "August", "December")),
    ("the letters from A to E", ("B", "C", "D", "E")),
    ("the numbers from one to five as words", ("one", "two", "three", "four", "five")),
    ("the primary colours", ("red", "yellow", "blue")),
    ("the five senses", ("sight", "touch", "taste", "smell")),
    ("the four points of the compass", ("north", "south", "east", "west")),
    ("the planets of the solar system", ("Mercury", "Venus", "Earth", "Mars", "Saturn")),
)  # fmt: skip


def _known_lists(rng: random.Random) -> Row:
    what, items = rng.choice(_LISTS)
    ask = rng.choice((f"List {what}.", f"Name {what}, please.", f"What are {what}?"))
    return _rubric(ask, all_of=list(items))


def _chinese(rng: random.Random) -> Row:
    name, city = rng.choice(("小明", "小红", "小华", "小丽")), rng.choice(("北京", "上海", "广州"))
    day, thing = rng.choice("一二三四五"), rng.choice(("书", "苹果", "雨伞", "手表"))
    text = f"{name}星期{day}从{city}带来了一个{thing}。"
    ask, answer = rng.choice(
        ((f"{name}从哪里来？", city), ("他带来了什么？", thing), ("是星期几？", f"星期{day}"))
    )
    return _short(f"{text}\n问题：{ask}请简短回答。", answer, words=12)


KINDS: dict[str, Make] = {
    "small-talk": _small_talk,
    "sentiment": _sentiment,
    "yes-no": _yes_no,
    "extraction": _extraction,
    "reading": _reading,
    "copying": _copying,
    "letter-case": _letter_case,
    "list-format": _list_format,
    "sorting": _sorting,
    "json": _as_json,
    "rewriting": _rewriting,
    "spelling": _spelling,
    "counting": _counting,
    "small-sums": _small_sums,
    "known-lists": _known_lists,
    "chinese": _chinese,
}
"""Each kind, and what makes a row of it."""
