"""One function per quickstart task: draw in, row out.

Each is a caricature of a task type from the paper's pool and needs hidden knowledge of the world
(category, size, polarity, synonymy, what a verb is done to). Most rows come in forms in which a bag
of words says little: a distractor of another class, a negation, an order, two words compared.
"""

from __future__ import annotations

from benchmarks.quickstart.world import (
    CATEGORIES,
    POLARITIES,
    SIZES,
    Adjective,
    Draw,
    Noun,
    Verb,
    World,
)

Row = dict[str, object]

# What is to be predicted, in any of the tasks; never part of the input.
TARGET_COLUMNS = frozenset(
    {"label", "labels", "score", "answer", "answers", "starts", "tags", "summary"}
)

# Base form of the verb as written; who does it is always one of the people.
_MODALS = ("will", "wants to", "likes to", "tried to")


def topic(world: World, draw: Draw) -> Row:
    """The category of the thing seen; the place where it was seen is a distractor."""
    kind = draw.one(CATEGORIES)
    seen = draw.one(world.nouns_of(kind)).word
    near = draw.one(world.nouns_of(_other(CATEGORIES, kind, draw))).word
    person = draw.one(world.people)
    text = draw.one(
        (
            f"{person} saw the {seen} near the {near}.",
            f"Near the {near}, {person} saw the {seen}.",
            f"The {seen} behind the {near} was seen by {person}.",
            f"Behind the {near} there is a {seen}.",
            f"There is a {seen} behind the {near}.",
        )
    )
    return {"text": text, "label": kind}


def question_type(world: World, draw: Draw) -> Row:
    """What kind of answer a question asks for; for "what", the right verb tells."""
    kind = draw.one((*CATEGORIES, "person", "number"))
    asks = draw.one(world.verbs_of(kind) if kind in CATEGORIES else world.verbs).word
    other = draw.one(world.verbs).word
    person, stranger = draw.several(world.people, 2)
    noun = draw.one(world.nouns).word
    if kind == "person":
        question = f"who wants to {asks} the {noun}?"
    elif kind == "number":
        question = f"how many does {person} want to {asks}?"
    else:
        question = f"what does {person} want to {asks}?"
    before = draw.one((f"If {stranger} will {other} it,", f"Since {stranger} did {other} it,"))
    return {"text": f"{before} {question}", "label": kind}


def mood(world: World, draw: Draw) -> Row:
    """Two feelings of one person, each perhaps negated: both good, both bad, or mixed."""
    label = draw.one(("good", "bad", "mixed"))
    first, second = draw.several(POLARITIES, 2) if label == "mixed" else (label, label)
    person = draw.one(world.people)
    one, two = _claim(world, first, draw), _claim(world, second, draw)
    text = draw.one((f"{person} was {one} and {two}.", f"{person} felt {one}, then {two}."))
    return {"text": text, "label": label}


def aspect(world: World, draw: Draw) -> Row:
    """The opinion about one of two things."""
    a, b = draw.several(world.nouns, 2)
    opinions = [draw.one(POLARITIES), draw.one(POLARITIES)]
    claims = [_claim(world, opinion, draw) for opinion in opinions]
    joint = draw.one(("but", "and"))
    asked = draw.below(2)
    return {
        "text": f"The {a.word} was {claims[0]} {joint} the {b.word} was {claims[1]}.",
        "about": (a, b)[asked].word,
        "label": opinions[asked],
    }


def plausible(world: World, draw: Draw) -> Row:
    """Can one do that to such a thing? Only if verb and noun are of one category."""
    verb = draw.one(world.verbs)
    fits = draw.chance(0.5)
    kind = verb.category if fits else _other(CATEGORIES, verb.category, draw)
    noun = draw.one(world.nouns_of(kind))
    modal = draw.one(_MODALS)
    return {
        "text": f"{draw.one(world.people)} {modal} {verb.word} the {noun.word}.",
        "label": "yes" if fits else "no",
    }


def size_order(world: World, draw: Draw) -> Row:
    """Does the one fit into the other? True if it is of a smaller size."""
    true = draw.chance(0.5)
    small, large = draw.several(SIZES, 2)
    if (SIZES.index(small) < SIZES.index(large)) != true:
        small, large = large, small
    a = draw.one([noun for noun in world.nouns if noun.size == small]).word
    b = draw.one([noun for noun in world.nouns if noun.size == large]).word
    text = draw.one((f"The {a} fits into the {b}.", f"The {b} can hold the {a}."))
    return {"text": text, "label": "true" if true else "false"}


def nli(world: World, draw: Draw) -> Row:
    """Does the second sentence follow from the first? Any label goes with and without "not"."""
    label = draw.one(("entailment", "neutral", "contradiction"))
    person, stranger = draw.several(world.people, 2)
    verb = draw.one(world.verbs)
    noun = draw.one(world.nouns_of(verb.category))
    quality = draw.one(world.adjectives)
    negated = draw.chance(0.5)
    no = "not " if negated else ""
    deed = f"{_either(verb, draw)} the {_either(noun, draw)}"
    right = negated == (label == "contradiction")  # of what stands behind the "not", if any
    kind = noun.category if right else _other(CATEGORIES, noun.category, draw)
    opinion = quality.polarity if right else _other(POLARITIES, quality.polarity, draw)
    denial = "not " if label == "contradiction" else ""
    hypotheses = [
        f"{person} did {denial}{deed}.",
        f"It was {no}{_article(kind)}.",
        f"It was {no}{opinion}.",
    ]
    if label == "neutral":
        elsewhere = draw.one([other for other in world.nouns if other.category != noun.category])
        other_deed = f"{draw.one(world.verbs_of(elsewhere.category)).word} the {elsewhere.word}"
        hypotheses = [f"{draw.one((person, stranger))} did {no}{other_deed}."]
    return {
        "premise": f"{person} did {verb.word} the {quality.word} {noun.word}.",
        "hypothesis": draw.one(hypotheses),
        "label": label,
    }


def paraphrase(world: World, draw: Draw) -> Row:
    """The same said with synonyms, or with one word that is another thing or the opposite."""
    person = draw.one(world.people)
    quality, noun = draw.one(world.adjectives), draw.one(world.nouns)
    same = draw.chance(0.5)
    other_quality, other_noun = quality.synonym, noun.synonym
    if not same and draw.chance(0.5):
        opposites = world.adjectives_of(_other(POLARITIES, quality.polarity, draw))
        other_quality = draw.one(opposites).word
    elif not same:
        strangers = [n for n in world.nouns if n.word not in (noun.word, noun.synonym)]
        other_noun = draw.one(strangers).word
    return {
        "first": f"{person} saw a {quality.word} {noun.word}.",
        "second": f"A {other_quality} {other_noun} was seen by {person}.",
        "label": "same" if same else "different",
    }


def word_in_context(world: World, draw: Draw) -> Row:
    """Is a word with two meanings used in the same meaning twice? The verbs tell."""
    word = draw.one(world.homographs)
    same = draw.chance(0.5)
    first = draw.one(word.categories)
    second = first if same else _other(word.categories, first, draw)
    one, two = (draw.one(world.verbs_of(kind)).word for kind in (first, second))
    people = draw.several(world.people, 2)
    modal = draw.one(_MODALS)
    return {
        "word": word.word,
        "first": f"{people[0]} {modal} {one} the {word.word}.",
        "second": f"{people[1]} {modal} {two} the {word.word}.",
        "label": "same" if same else "different",
    }


def similarity(world: World, draw: Draw) -> Row:
    """How alike two things are: two points for the category, two for the opinion, one for size."""
    a = draw.one(world.nouns)
    b = draw.one(world.nouns_of(a.category) if draw.chance(0.4) else world.nouns)
    p, q = draw.one(world.adjectives), draw.one(world.adjectives)
    score = 2.0 * (a.category == b.category) + 2.0 * (p.polarity == q.polarity)
    score += 1.0 - abs(SIZES.index(a.size) - SIZES.index(b.size)) / 2
    return {"first": f"a {p.word} {a.word}", "second": f"a {q.word} {b.word}", "score": score}


def fitting_thing(world: World, draw: Draw) -> Row:
    """Which of four things can one do that to?"""
    verb = draw.one(world.verbs)
    others = draw.several([c for c in CATEGORIES if c != verb.category], 3)
    kinds = draw.shuffled([verb.category, *others])
    return {
        "context": f"{draw.one(world.people)} {draw.one(_MODALS)} {verb.word} a",
        "options": [draw.one(world.nouns_of(kind)).word for kind in kinds],
        "answer": kinds.index(verb.category),
    }


def fitting_remark(world: World, draw: Draw) -> Row:
    """Which of three remarks means what was asked for: praise, or blame?"""
    wanted = draw.one(POLARITIES)
    unwanted = _other(POLARITIES, wanted, draw)
    answer = draw.below(3)
    noun = draw.one(world.nouns).word
    return {
        "context": f"Say something {wanted} about the {noun}.",
        "options": [
            f"It was {_claim(world, wanted if i == answer else unwanted, draw)}." for i in range(3)
        ],
        "answer": answer,
    }


def find_thing(world: World, draw: Draw) -> Row:
    """Point at the one thing of the asked category among three."""
    kinds = draw.several(CATEGORIES, 3)
    nouns = [draw.one(world.nouns_of(kind)) for kind in kinds]
    asked = draw.below(3)
    person, stranger = draw.several(world.people, 2)
    context = draw.one(
        (
            "{p} has a {0}, a {1} and a {2}.",
            "{p} saw a {0} near the {1}. {q} has the {2}.",
            "The {0} is behind the {1}. {p} and {q} saw a {2}.",
        )
    ).format(*(noun.word for noun in nouns), p=person, q=stranger)
    answer = nouns[asked].word
    return {
        "question": f"Which {kinds[asked]} is there?",
        "context": context,
        "answers": [answer],
        "starts": [context.index(f" {answer}") + 1],
    }


def who_did_what(world: World, draw: Draw) -> Row:
    """Who, or what, of two deeds told in a row; the question may use a synonym."""
    people = draw.several(world.people, 2)
    kinds = draw.several(CATEGORIES, 2)
    verbs = [draw.one(world.verbs_of(kind)) for kind in kinds]
    nouns = [draw.one(world.nouns_of(kind)) for kind in kinds]
    context = " ".join(
        f"{p} did {v.word} the {n.word}." for p, v, n in zip(people, verbs, nouns, strict=True)
    )
    asked = draw.below(2)
    if draw.chance(0.5):
        question, answer = f"Who did {_either(verbs[asked], draw)} something?", people[asked]
    else:
        question, answer = f"What did {people[asked]} {verbs[asked].word}?", nouns[asked].word
    return {
        "question": question,
        "context": context,
        "answers": [answer],
        "starts": [context.index(answer)],
    }


def reviews(world: World, draw: Draw) -> Row:
    """The held-out target: two or three remarks of one opinion, each perhaps negated."""
    opinion = draw.one(POLARITIES)
    one, two, three = (_claim(world, opinion, draw) for _ in range(3))
    a, b = draw.several(world.nouns, 2)
    text = draw.one(
        (
            f"The {a.word} was {one}, and the {b.word} was {two}.",
            f"The {a.word} was {one} and {two}. The {b.word} was {three}.",
            f"{draw.one(world.people)} saw the {a.word}. It was {one}, and {two}.",
        )
    )
    return {"text": text, "label": {"good": "positive", "bad": "negative"}[opinion]}


def mentions(world: World, draw: Draw) -> Row:
    """Which categories a sentence mentions: several labels a row."""
    kinds = draw.several(CATEGORIES, 1 + draw.below(3))
    words = [f"a {draw.one(world.nouns_of(kind)).word}" for kind in kinds]
    text = f"{draw.one(world.people)} saw {' and '.join(words)}."
    return {"text": text, "labels": sorted(kinds, key=CATEGORIES.index)}


def word_tags(world: World, draw: Draw) -> Row:
    """A tag for every word: people and the five categories as entities, O for the rest."""
    verb = draw.one(world.verbs)
    deed, place = draw.one(world.nouns_of(verb.category)), draw.one(world.nouns_of("place"))
    quality = draw.one(world.adjectives)
    tagged = [(draw.one(world.people), "B-person"), ("did", "O"), (verb.word, "O"), ("the", "O")]
    tagged += [(quality.word, f"B-{deed.category}"), (deed.word, f"I-{deed.category}")]
    tagged += [("near", "O"), ("the", "O"), (place.word, "B-place"), (".", "O")]
    return {"words": [word for word, _ in tagged], "tags": [tag for _, tag in tagged]}


def summary(world: World, draw: Draw) -> Row:
    """What somebody did, in few words; what another saw, and how the thing was, is left out."""
    person, other = draw.several(world.people, 2)
    verb = draw.one(world.verbs)
    noun = draw.one(world.nouns_of(verb.category)).word
    seen = draw.one(world.nouns).word
    deed = f"{person} did {verb.word} the {draw.one(world.adjectives).word} {noun}."
    text = " ".join(draw.shuffled((deed, f"{other} saw the {seen}.")))
    return {"text": text, "summary": f"{person} did {verb.word} the {noun}."}


def _other(items: tuple[str, ...], not_this: str, draw: Draw) -> str:
    return draw.one([item for item in items if item != not_this])


def _either(item: Noun | Verb | Adjective, draw: Draw) -> str:
    """The word or its synonym."""
    return draw.one((item.word, item.synonym))


def _article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _claim(world: World, polarity: str, draw: Draw) -> str:
    """An adjective that says so, or "not" with one that says the opposite."""
    if draw.chance(0.3):
        return f"not {draw.one(world.adjectives_of(_other(POLARITIES, polarity, draw))).word}"
    return draw.one(world.adjectives_of(polarity)).word
