"""Overlap of inputs: what is planted is found at its rows, and nothing else is."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import muppet_zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_zoo import spec_data, write_jsonl, write_spec

from muppet_zoo.errors import UnknownNameError
from muppet_zoo.formats import Segments
from muppet_zoo.overlap import compare as overlap_module
from muppet_zoo.overlap import index as overlap_index
from muppet_zoo.overlap.compare import (
    OverlapReport,
    Places,
    SplitPair,
    evaluation_splits,
    find_overlap,
    train_splits,
)
from muppet_zoo.overlap.hashes import Sets, hash_examples, jaccard, words_of
from muppet_zoo.overlap.index import KINDS, NONE, EvaluationIndex
from muppet_zoo.spec import TaskSpec


def sentence(source: random.Random, length: int) -> str:
    """Words that no other sentence is likely to have in this order."""
    return " ".join(f"w{source.randrange(5000)}" for _ in range(length))


def single(text: str) -> Segments:
    return Segments(sequences=((text, None),))


def pair(first: str, second: str) -> Segments:
    return Segments(sequences=((first, second),))


def kinds_of(train: Sequence[Segments], evaluation: Sequence[Segments]) -> list[str | None]:
    """The strongest kind of each training example with any evaluation example."""
    rows = np.arange(len(evaluation))
    index = EvaluationIndex([hash_examples(evaluation)], rows, np.zeros(len(rows), np.int32))
    found = index.find(hash_examples(train), np.arange(len(train)), len(train))
    strongest = found.kinds.min(axis=1, initial=NONE)
    return [None if kind == NONE else KINDS[kind] for kind in strongest]


# --- what counts as what ---------------------------------------------------------------------

BASE = "the old clock in the hall struck nine while the two boys were still asleep upstairs"


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        (BASE, "exact"),
        (BASE.upper() + " !", "exact"),
        (BASE.replace(" ", "  ").replace("nine", "ni-ne"), "exact"),
        (BASE.replace("nine", "ten"), "near"),
        (BASE.replace("old ", ""), "near"),
        (BASE + " as ever", "near"),
        ("and so " + " ".join(BASE.split()[:13]) + " whatever came of it in that year", "ngram"),
        ("and so " + " ".join(BASE.split()[:12]) + " whatever came of it in that year", None),
        (" ".join(sorted(BASE.split())), None),
        ("a young mill by the river stood idle when our three girls had gone to town", None),
    ],
)  # fmt: skip
def test_how_a_single_text_overlaps(other: str, kind: str | None) -> None:
    assert kinds_of([single(other)], [single(BASE)]) == [kind]


def test_ligatures_and_full_width_letters_are_the_letters_they_stand_for() -> None:
    assert words_of("Ｔｈｅ ﬁrst_STRASSE, café") == words_of("the FIRST strasse caf\u00e9")
    assert kinds_of([single("ﬁve")], [single("Five.")]) == ["exact"]


def test_texts_without_any_letter_are_compared_by_their_characters() -> None:
    assert kinds_of([single("😀 !"), single("😀?")], [single("😀!")]) == ["exact", None]


def test_a_passage_under_another_question_is_a_shared_segment_and_no_near_copy() -> None:
    passage = sentence(random.Random(1), 60)
    known = [pair("who struck the clock", passage)]
    asked = [pair("when did the boys wake up", passage), pair("who struck the clocks", passage)]
    assert kinds_of(asked, known) == ["segment", "near"]


def test_short_texts_are_no_segments() -> None:
    source = random.Random(2)
    known = [
        pair(sentence(source, 20), "it rained"),
        pair(sentence(source, 20), sentence(source, 8)),
    ]
    shared = known[1].sequences[0][1] or ""
    asked = [pair(sentence(source, 20), "it rained"), pair(sentence(source, 20), shared)]
    assert kinds_of(asked, known) == [None, "segment"]


def test_a_pair_the_other_way_round_is_near() -> None:
    source = random.Random(3)
    first, second = sentence(source, 12), sentence(source, 14)
    assert kinds_of([pair(second, first)], [pair(first, second)]) == ["near"]


def test_options_in_another_order_are_near() -> None:
    context = sentence(random.Random(4), 30)
    known = Segments(sequences=tuple((context, o) for o in ("a red hat", "a blue coat", "none")))
    asked = Segments(sequences=tuple((context, o) for o in ("none", "a blue coat", "a red hat")))
    assert kinds_of([asked], [known]) == ["near"]


def test_words_of_a_tokenised_sentence_are_compared_like_a_text() -> None:
    words = Segments(sequences=(("", None),), words=tuple(BASE.split()))
    assert kinds_of([words], [single(BASE)]) == ["exact"]


def test_empty_sides_find_nothing() -> None:
    assert kinds_of([single(BASE)], []) == [None]
    assert kinds_of([], [single(BASE)]) == []


# --- properties ------------------------------------------------------------------------------

texts = st.lists(st.text(alphabet="abAB .,", max_size=6), max_size=12)


@settings(max_examples=60, deadline=None)
@given(train=texts, evaluation=texts)
def test_exact_overlap_is_that_of_the_sets_of_letters(
    train: list[str], evaluation: list[str]
) -> None:
    def key(text: str) -> str:
        letters = "".join(c for c in text.casefold() if c.isalnum())
        return letters or "".join(text.split())

    known = {key(text) for text in evaluation}
    found = kinds_of([single(t) for t in train], [single(t) for t in evaluation or ["zzz"]])
    assert [kind == "exact" for kind in found] == [key(text) in known for text in train]


sets = st.lists(st.lists(st.integers(0, 9), max_size=8), min_size=1, max_size=6)


@given(left=sets, right=sets)
def test_jaccard_is_that_of_pythons_sets(left: list[list[int]], right: list[list[int]]) -> None:
    count = min(len(left), len(right))

    def as_sets(lists: list[list[int]]) -> Sets:
        owners = np.repeat(np.arange(count), [len(items) for items in lists[:count]])
        values = np.array([v for items in lists[:count] for v in items], np.uint64)
        return Sets.of(values, owners, count)

    expected = [
        len(set(a) & set(b)) / max(len(set(a) | set(b)), 1)
        for a, b in zip(left[:count], right[:count], strict=True)
    ]
    assert jaccard(as_sets(left), as_sets(right)).tolist() == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.integers(1, 40), edits=st.integers(0, 6))
def test_near_is_decided_by_the_jaccard_of_word_pairs(seed: int, length: int, edits: int) -> None:
    source = random.Random(seed)
    words = sentence(source, length).split()
    changed = list(words)
    for _ in range(edits):
        changed[source.randrange(length)] = f"x{source.randrange(100)}"

    def pairs(items: list[str]) -> set[tuple[str, str]]:
        return set(zip(items, [*items[1:], ""], strict=True))

    a, b = pairs(words), pairs(changed)
    alike = len(a & b) / len(a | b)
    kind = kinds_of([single(" ".join(changed))], [single(" ".join(words))])[0]
    if min(len(a), len(b)) < overlap_index.MIN_NEAR_PAIRS or alike < overlap_index.NEAR_JACCARD:
        assert kind != "near"
    elif alike >= 0.75:  # just above the bound a pair is missed one time in fifty
        assert kind in ("exact", "near")


# --- over whole splits -----------------------------------------------------------------------


class Zoo:
    """Tasks with a mirror of rows."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mirror = folder, folder / "mirror"

    def task(self, name: str, kind: str = "single", **splits: list[dict[str, Any]]) -> TaskSpec:
        data = spec_data(name, kind)
        data["source"]["splits"] = {role: role for role in splits}
        for role, rows in splits.items():
            write_jsonl(self.mirror / name / f"{role}.jsonl", rows)
        return write_spec(self.folder / "specs", data)

    def compare(self, train: Sequence[TaskSpec], evaluation: Sequence[TaskSpec]) -> OverlapReport:
        return find_overlap(
            train_splits(train), evaluation_splits(evaluation), places=Places(mirror=self.mirror)
        )


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path)


def rows_of(texts: Sequence[str]) -> list[dict[str, Any]]:
    return [{"text": text, "label": 0} for text in texts]


def planted(source: random.Random) -> tuple[list[str], list[str]]:
    """2500 training texts, 300 evaluation texts, and copies at known rows."""
    train = [sentence(source, source.randint(14, 30)) for _ in range(2500)]
    evaluation = [sentence(source, source.randint(14, 30)) for _ in range(300)]
    train[17] = evaluation[3].upper()
    train[1203] = " ".join(evaluation[200].split()[1:])
    train[2499] = sentence(source, 9) + " " + " ".join(evaluation[299].split()[:13])
    return train, evaluation


PLANTED = [("exact", 17, 3), ("near", 1203, 200), ("ngram", 2499, 299)]


def found(pair: SplitPair) -> list[tuple[str, int, int]]:
    return [(e.kind, e.train_row, e.evaluation_row) for e in pair.examples]


@pytest.mark.parametrize("chunk_rows", [7, 1000, 10_000])
def test_planted_copies_are_found_at_their_rows_whatever_the_chunks(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch, chunk_rows: int
) -> None:
    monkeypatch.setattr(overlap_module, "_CHUNK_ROWS", chunk_rows)
    train, evaluation = planted(random.Random(0))
    report = zoo.compare(
        [zoo.task("one", train=rows_of(train))], [zoo.task("two", test=rows_of(evaluation))]
    )
    (pair,) = report.pairs
    assert found(pair) == PLANTED
    assert pair.train_rows == {"exact": 1, "near": 1, "segment": 0, "ngram": 1}
    assert pair.evaluation_rows == pair.train_rows
    assert pair.share == 3 / 300
    assert (pair.train.num_rows, pair.evaluation.num_rows) == (2500, 300)


def test_disjoint_texts_share_nothing(zoo: Zoo) -> None:
    source = random.Random(5)
    texts = [sentence(source, source.randint(3, 40)) for _ in range(1500)]
    report = zoo.compare(
        [zoo.task("one", train=rows_of(texts[:1000]))],
        [zoo.task("two", validation=rows_of(texts[1000:1300]), test=rows_of(texts[1300:]))],
    )
    assert [pair.share for pair in report.pairs] == [0, 0]
    assert not any(pair.examples or any(pair.train_rows.values()) for pair in report.pairs)


def test_each_row_counts_once_for_each_split_at_its_strongest_kind(zoo: Zoo) -> None:
    source = random.Random(6)
    text, other = sentence(source, 20), sentence(source, 20)
    train = zoo.task("one", train=rows_of([text, text, " ".join(text.split()[:-1])]))
    evaluation = zoo.task("two", validation=rows_of([other, text]), test=rows_of([text, text]))
    first, second = zoo.compare([train], [evaluation]).pairs
    assert first.train_rows == {"exact": 2, "near": 1, "segment": 0, "ngram": 0}
    assert first.evaluation_rows == {"exact": 1, "near": 0, "segment": 0, "ngram": 0}
    assert second.evaluation_rows == {"exact": 2, "near": 0, "segment": 0, "ngram": 0}
    assert found(first) == [("exact", 0, 1), ("exact", 1, 1), ("near", 2, 1)]


def test_only_the_first_of_too_many_candidates_are_looked_at_and_that_is_told(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap_index, "MAX_CANDIDATES", 10)
    base = sentence(random.Random(7), 20)
    train = zoo.task("one", train=rows_of([f"{base} here", sentence(random.Random(8), 20)]))
    evaluation = zoo.task("two", test=rows_of([f"{base} item{i}" for i in range(40)]))
    report = zoo.compare([train], [evaluation])
    assert report.train[0].num_cut == 1
    assert report.pairs[0].evaluation_rows == {"exact": 0, "near": 10, "segment": 0, "ngram": 30}


def test_what_is_not_there_is_named_and_bad_rows_are_left_out(zoo: Zoo) -> None:
    good = rows_of([sentence(random.Random(9), 12)])
    train = zoo.task("one", train=[*good, {"text": "", "label": 0}])
    evaluation = zoo.task("two", validation=good, test=[{"text": " ", "label": 0}])
    gone = zoo.task("three", train=good, test=good)
    (zoo.mirror / "three" / "train.jsonl").unlink()
    report = zoo.compare([train, gone], [evaluation])
    assert [(s.name, s.absent) for s in report.missing] == [
        ("three train", "not in the mirror"),
        ("two test", "none of its 1 rows gives an example"),
    ]
    assert (report.train[0].num_rows, report.train[0].num_unused_rows) == (1, 1)
    assert found(report.pairs[0]) == [("exact", 0, 0)]


def test_pairs_of_one_corpus_are_told_without_any_shared_text(zoo: Zoo) -> None:
    source = random.Random(10)
    for name, lineage in (("one", ["reviews", "news"]), ("two", ["news"]), ("three", ["other"])):
        data = spec_data(name, lineage=lineage)
        write_spec(zoo.folder / "specs", data)
        for role in ("train", "validation"):
            rows = rows_of([sentence(source, 12)])
            write_jsonl(zoo.mirror / name / f"{role}.jsonl", rows)
    specs = [write_spec(zoo.folder / "specs", spec_data(name, lineage=lineage))
             for name, lineage in (("one", ["reviews", "news"]), ("two", ["news"]),
                                   ("three", ["other"]))]  # fmt: skip
    report = zoo.compare(specs[:1], specs[1:])
    assert [(p.evaluation.name, p.lineage, p.share) for p in report.pairs] == [
        ("two validation", ("news",), 0),
        ("three validation", (), 0),
    ]
    (zoo.mirror / "two" / "validation.jsonl").unlink()
    report = zoo.compare(specs[:2], specs[1:])
    assert [(k.train, k.evaluation, k.corpora) for k in report.kinships] == [
        ("one", "two", ("news",))
    ]


def test_roles_are_chosen_with_their_suffixes(zoo: Zoo) -> None:
    spec = zoo.task("one", train=[], train_more=[], validation=[], validation_odd=[], test=[])
    assert [role for _, role in train_splits([spec])] == ["train", "train_more"]
    chosen = evaluation_splits([spec], ["validation"])
    assert [role for _, role in chosen] == ["validation", "validation_odd"]
    with pytest.raises(UnknownNameError, match="did you mean 'validation_odd'"):
        evaluation_splits([spec], ["validation_od"])


# --- the command -----------------------------------------------------------------------------


@pytest.fixture
def command(zoo: Zoo) -> list[str]:
    train, evaluation = planted(random.Random(0))
    zoo.task("one", train=rows_of(train))
    zoo.task("two", validation=rows_of(evaluation), test=[])
    mixtures = zoo.folder / "specs" / "mixtures"
    mixtures.mkdir()
    (mixtures / "both.yaml").write_text(
        "mixture_version: 1\nname: both\ndescription: Two tasks together.\ntasks: [one, two]\n"
    )
    return ["overlap", "--specs", str(zoo.folder / "specs"), "--mirror", str(zoo.mirror)]


def test_the_table_has_counts_and_rows_but_no_texts(command: list[str]) -> None:
    done = muppet_zoo(*command, "--train", "both", "--eval", "two", "--eval-split", "validation")
    assert done.returncode == 0, done.stderr
    title, header, row, *rest = done.stdout.splitlines()
    assert title == "1 pair of splits compared; evaluation rows that training has seen, by pair"
    assert header.split() == [
        *("train", "evaluation", "exact", "near", "segment", "ngram", "rows", "%"),
        *("train", "rows", "same", "corpus", "for", "example"),
    ]
    assert row.split() == [
        *("one", "train", "two", "validation", "1", "1", "0", "1", "300", "1.000", "3", "-"),
        *("17", "=", "3", "(exact)"),
    ]
    assert not rest
    assert "w4" not in done.stdout.replace("two", "")


def test_json_has_every_pair_and_what_was_missing(command: list[str], tmp_path: Path) -> None:
    picture = tmp_path / "matrix.svg"
    done = muppet_zoo(
        *command, "--train", "one", "--eval", "both", "--json", "--plot", str(picture)
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (pair,) = report["pairs"]
    assert [(e["kind"], e["train_row"], e["evaluation_row"]) for e in pair["examples"]] == PLANTED
    assert pair["evaluation_rows"] == {"exact": 1, "near": 1, "segment": 0, "ngram": 1}
    assert {s["task"]: s["absent"] for s in report["evaluation"] if s["absent"]} == {
        "two": "no rows"
    }
    assert "two validation" in picture.read_text()


def test_a_wrong_name_is_a_wrong_request(command: list[str]) -> None:
    done = muppet_zoo(*command, "--train", "botch", "--eval", "two")
    assert done.returncode == 2
    assert "no task or mixture is named 'botch'; did you mean 'both'" in done.stderr
