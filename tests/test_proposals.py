"""Proposals for invented rows: one dataset of each kind, in the ways that datasets write it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from tiny_zoo import write_jsonl

from muppet_zoo.add_task.proposals import Proposal, propose
from muppet_zoo.add_task.samples import Sample, named_files, sample_files
from muppet_zoo.row_files import read_rows

WORDS = [*("the", "old", "mill", "by", "the", "river", "was", "sold", "to", "a", "baker"), "who"]
LONG = " ".join(WORDS * 8)


def text(source: random.Random, low: int = 6, high: int = 14) -> str:
    return " ".join(source.choices(WORDS, k=source.randint(low, high)))


@pytest.fixture
def sample_of(tmp_path: Any) -> Any:
    def make(**splits: Sequence[dict[str, Any]]) -> Sample:
        for name, rows in splits.items():
            write_jsonl(tmp_path / f"{name}.jsonl", rows)
        return sample_files(named_files([str(tmp_path / f"{name}.jsonl") for name in splits]))

    return make


def rows_of(make: Any, count: int = 60) -> list[dict[str, Any]]:
    source = random.Random(7)
    return [make(source, i) for i in range(count)]


def shape(proposal: Proposal, *fields: str) -> dict[str, Any]:
    return {field: proposal.values.get(field) for field in ("format", "head", *fields)}


def test_one_text_and_names_of_labels(sample_of: Any) -> None:
    rows = rows_of(lambda s, i: {"id": i, "review": text(s), "label": s.choice(["good", "bad"])})
    found = propose(sample_of(train=rows, dev=rows))
    assert shape(found, "text", "target", "labels", "metrics", "splits") == {
        "format": "single",
        "head": "classification",
        "text": "{review}",
        "target": "label",
        "labels": ["bad", "good"],
        "metrics": ["accuracy"],
        "splits": {"train": "train", "validation": "dev"},
    }
    assert set(found.missing) == {"description", "license", "citation", "homepage", "languages"}
    assert found.reasons["format"] == "one text column, 'review'"


def test_names_of_integers_are_asked_never_made_up(sample_of: Any) -> None:
    rows = rows_of(lambda s, i: {"text": text(s), "label": i % 3})
    found = propose(sample_of(train=rows))
    assert "labels" not in found.values
    assert found.missing["labels"].endswith("for 0, 1, 2")
    given = propose(sample_of(train=rows), {"labels": ["no", "maybe", "yes"]})
    assert given.values["labels"] == ["no", "maybe", "yes"]
    assert given.values["columns"]["label"] == "label"
    assert given.reasons["labels"] == "as given"


def test_names_beside_the_integers_are_taken_and_not_read(sample_of: Any) -> None:
    names = ["lost card", "new card", "exchange rate"]
    rows = rows_of(lambda s, i: {"text": text(s), "label": i % 3, "label_text": names[i % 3]})
    found = propose(sample_of(train=rows))
    assert shape(found, "text", "labels") == {
        "format": "single", "head": "classification", "text": "{text}", "labels": names,
    }  # fmt: skip
    assert found.reasons["labels"] == "'label_text' has a name for each"


@pytest.mark.parametrize(("values", "key"), [([1, 2, 3], "1"), (["0", "1", "2"], "0")])
def test_numbers_that_do_not_count_from_0_are_mapped(
    sample_of: Any, values: list[Any], key: str
) -> None:
    rows = rows_of(lambda s, i: {"text": text(s), "stars": values[i % 3]})
    found = propose(sample_of(train=rows), {"target": "stars", "labels": ["bad", "fair", "good"]})
    (operation,) = found.values["rows"]
    assert operation["op"] == "map_values"
    assert operation["values"][key] == "bad"


def test_rows_without_a_label_are_dropped_or_their_split_is_known_to_have_none(
    sample_of: Any,
) -> None:
    rows = rows_of(lambda s, i: {"text": text(s), "label": -1 if i == 7 else i % 2})
    hidden = [{**row, "label": -1} for row in rows]
    found = propose(sample_of(train=rows, test=hidden), {"labels": ["no", "yes"]})
    assert found.values["rows"] == [{"op": "drop_where", "column": "label", "values": [-1]}]
    assert found.values["splits"]["test"] == {"split": "test", "labels": False}


def test_minus_one_may_be_a_label_like_others(sample_of: Any) -> None:
    rows = rows_of(lambda s, i: {"text": text(s), "label": i % 3 - 1})
    found = propose(sample_of(train=rows), {"labels": ["against", "neither", "for"]})
    (operation,) = found.values["rows"]
    assert operation["values"] == {"-1": "against", "0": "neither", "1": "for"}


@pytest.mark.parametrize(
    ("first", "second", "segments"),
    [
        ("premise", "hypothesis", ("{premise}", "{hypothesis}")),
        ("sentence1", "sentence2", ("{sentence1}", "{sentence2}")),
        ("passage", "question", ("{question}", "{passage}")),
        ("answer", "question", ("{question}", "{answer}")),
        ("subject", "body", ("{subject}", "{body}")),
    ],
)
def test_which_of_two_texts_is_first(
    sample_of: Any, first: str, second: str, segments: tuple[str, str]
) -> None:
    rows = rows_of(lambda s, i: {first: text(s), second: text(s), "label": ["a", "b"][i % 2]})
    found = propose(sample_of(train=rows)).values
    assert (found["format"], found["head"]) == ("pair", "classification")
    assert (found["first"], found["second"]) == segments


def test_a_text_that_is_not_read_is_pointed_out(sample_of: Any) -> None:
    rows = rows_of(
        lambda s, i: {"premise": text(s), "note": 1, "remark": text(s, 3, 4),
                      "hypothesis": text(s), "label": ["a", "b"][i % 2]}
    )  # fmt: skip
    found = propose(sample_of(train=rows))
    assert (found.values["first"], found.values["second"]) == ("{premise}", "{hypothesis}")
    assert any("'remark', texts of" in remark for remark in found.remarks)


@pytest.mark.parametrize("question_first", [False, True])
def test_context_question_and_answer(sample_of: Any, question_first: bool) -> None:
    context = LONG if question_first else "The mill was sold to a baker."
    rows = rows_of(
        lambda s, i: {"context": f"{context} {text(s)}", "question": text(s, 5, 6),
                      "answer": text(s, 3, 4), "label": i % 2}
    )  # fmt: skip
    found = propose(sample_of(train=rows)).values
    assert (found["first"], found["second"]) == (
        ("{context}", "{question} {answer}")
        if question_first
        else ("{context} {question}", "{answer}")
    )


def test_regression(sample_of: Any) -> None:
    rows = rows_of(lambda s, i: {"a": text(s), "b": text(s), "score": s.randint(0, 50) / 10})
    found = propose(sample_of(train=rows)).values
    assert (found["format"], found["head"], found["range"]) == ("pair", "regression", [0, 5])
    assert found["metrics"] == ["pearson", "spearman"]


def test_lists_of_labels(sample_of: Any) -> None:
    tags = ["joy", "fear", "anger"]
    rows = rows_of(lambda s, i: {"text": text(s), "labels": s.sample(tags, s.randint(0, 2))})
    found = propose(sample_of(train=rows)).values
    assert (found["format"], found["head"]) == ("single", "multi_label")
    assert (found["target"], found["labels"]) == ("labels", ["anger", "fear", "joy"])


def test_columns_of_0_and_1(sample_of: Any) -> None:
    rows = rows_of(
        lambda s, i: {"text": text(s), "angry": i % 2, "sad": i % 3 == 0, "glad": int(i % 5 == 0)}
    )
    found = propose(sample_of(train=rows)).values
    assert (found["head"], found["labels"]) == ("multi_label", ["angry", "sad", "glad"])
    assert found["rows"] == [{"op": "flags", "columns": ["angry", "sad", "glad"], "into": "labels"}]


def options(source: random.Random, count: int = 3) -> list[str]:
    return [f"{text(source, 2, 4)} {i}" for i in range(count)]


def in_list(source: random.Random, i: int) -> dict[str, Any]:
    return {"question": text(source), "choices": options(source), "label": i % 3}


def beside_keys(source: random.Random, i: int) -> dict[str, Any]:
    listed = {"text": options(source), "label": ["A", "B", "C"]}
    return {"question": text(source), "choices": listed, "answerKey": "ABC"[i % 3]}


def by_text(source: random.Random, i: int) -> dict[str, Any]:
    listed = options(source)
    return {"question": text(source), "options": listed, "answer": listed[i % 3]}


def in_columns(source: random.Random, i: int) -> dict[str, Any]:
    named = zip(["answerA", "answerB", "answerC"], options(source), strict=True)
    return {"question": text(source), **dict(named), "label": str(i % 3 + 1)}


def from_letters(source: random.Random, i: int) -> dict[str, Any]:
    named = {f"option_{letter}": o for letter, o in zip("abc", options(source), strict=True)}
    return {"question": text(source), **named, "correct": "abc"[i % 3]}


COLUMNS_OF = "{{{}}}".format


@pytest.mark.parametrize(
    ("make", "choices", "target", "keys"),
    [
        (in_list, "choices", "label", None),
        (beside_keys, "choices.text", "answerKey", "choices.label"),
        (by_text, "options", "answer", "options"),
        (in_columns, ["{answerA}", "{answerB}", "{answerC}"], "label", ["1", "2", "3"]),
        (from_letters, ["{option_a}", "{option_b}", "{option_c}"], "correct", ["a", "b", "c"]),
    ],
)
def test_options_and_the_key_that_names_one(
    sample_of: Any, make: Any, choices: Any, target: str, keys: Any
) -> None:
    found = propose(sample_of(train=rows_of(make))).values
    assert (found["format"], found["head"]) == ("multiple_choice", "multiple_choice")
    assert (found["context"], found["choices"]) == ("{question}", choices)
    assert (found["target"], found.get("keys")) == (target, keys)


def test_options_in_one_text_with_letters(sample_of: Any) -> None:
    rows = rows_of(
        lambda s, i: {"problem": text(s), "options": f"a ) {i} , b ) {i + 1} , c ) {i + 2}",
                      "correct": "abc"[i % 3]}
    )  # fmt: skip
    found = propose(sample_of(train=rows)).values
    assert found["choices"] == "option_list"
    assert found["rows"] == [{"op": "split_options", "column": "options", "into": "option_list"}]
    assert found["keys"] == ["a", "b", "c"]


def test_a_gap_is_filled_by_the_options(sample_of: Any) -> None:
    rows = rows_of(
        lambda s, i: {"sentence": f"{text(s)} _ {text(s)}", "option1": "the baker",
                      "option2": "the miller", "answer": str(i % 2 + 1)}
    )  # fmt: skip
    found = propose(sample_of(train=rows)).values
    assert found["rows"][0]["op"] == "split_at"
    assert (found["context"], found["choices"]) == (
        "{before}",
        ["{option1}{after}", "{option2}{after}"],
    )


def test_right_and_wrong_answers_in_columns(sample_of: Any) -> None:
    rows = rows_of(
        lambda s, i: {"question": text(s), "distractor1": text(s, 1, 2),
                      "distractor2": text(s, 1, 2), "correct_answer": text(s, 1, 2)}
    )  # fmt: skip
    found = propose(sample_of(train=rows)).values
    assert found["choices"] == ["{correct_answer}", "{distractor1}", "{distractor2}"]
    assert found["rows"] == [{"op": "join", "template": "0", "into": "right_option"}]


def answered(source: random.Random, i: int, *, placed: bool) -> dict[str, Any]:
    context = f"{LONG} {text(source)}"
    start = 4
    found: dict[str, Any] = {"text": [context[start : start + 8]]}
    if placed:
        found["answer_start"] = [start]
    return {"context": context, "question": text(source, 4, 5), "answers": found}


def test_answers_that_stand_where_the_numbers_say(sample_of: Any) -> None:
    found = propose(sample_of(train=rows_of(lambda s, i: answered(s, i, placed=True)))).values
    assert shape_of(found) == ("extractive_qa", "span", "{question}", "context")
    assert (found["answers"], found["answer_starts"]) == ("answers.text", "answers.answer_start")
    assert "no_answer" not in found


def shape_of(values: Any) -> tuple[str, ...]:
    return tuple(values[key] for key in ("format", "head", "question", "context"))


def test_questions_without_an_answer(sample_of: Any) -> None:
    rows = rows_of(lambda s, i: answered(s, i, placed=True))
    rows[3]["answers"] = {"text": [], "answer_start": []}
    assert propose(sample_of(train=rows)).values["no_answer"] is True


def test_answers_that_have_to_be_found(sample_of: Any) -> None:
    found = propose(sample_of(train=rows_of(lambda s, i: answered(s, i, placed=False)))).values
    assert shape_of(found) == ("extractive_qa", "span", "{question}", "context")
    assert [operation["op"] for operation in found["rows"]] == ["locate"]


def test_words_with_tags(sample_of: Any) -> None:
    def make(source: random.Random, i: int) -> dict[str, Any]:
        words = text(source, 5, 9).split()
        return {"tokens": words, "tags": ["B-place" if w == "mill" else "O" for w in words]}

    found = propose(sample_of(train=rows_of(make))).values
    assert (found["format"], found["head"]) == ("tokens", "token_classification")
    assert (found["tokens"], found["target"]) == ("tokens", "tags")
    assert (found["labels"], found["metrics"]) == (["O", "B-place"], ["entity_f1"])


@pytest.mark.parametrize("names", [("document", "summary"), ("email_body", "subject_line")])
def test_a_text_for_a_text(sample_of: Any, names: tuple[str, str]) -> None:
    rows = rows_of(lambda s, i: {names[0]: text(s, 60, 80), names[1]: text(s)})
    found = propose(sample_of(train=rows)).values
    assert (found["format"], found["head"]) == ("text_to_text", "generation")
    assert (found["text"], found["target"]) == (f"{{{names[0]}}}", f"{{{names[1]}}}")
    assert found["max_target_tokens"] >= 16


def test_lists_of_texts_are_joined(sample_of: Any) -> None:
    rows = rows_of(lambda s, i: {"dialogue": [text(s), text(s)], "label": ["plan", "chat"][i % 2]})
    found = propose(sample_of(train=rows)).values
    assert found["text"] == "{dialogue_text}"
    assert found["rows"] == [{"op": "flatten", "column": "dialogue", "into": "dialogue_text"}]


@pytest.mark.parametrize(
    ("splits", "roles"),
    [
        (["tickets"], {"train": "tickets",
                       "validation": {"carve_from": "tickets", "percent": 10}}),
        (["train", "dev", "test_r1"], {"train": "train", "validation": "dev",
                                       "test_r1": "test_r1"}),
        (["my_train", "my_test"], {"train": "my_train", "test": "my_test",
                                   "validation": {"carve_from": "my_train", "percent": 10}}),
    ],
)  # fmt: skip
def test_roles_follow_from_names(sample_of: Any, splits: list[str], roles: Any) -> None:
    rows = rows_of(lambda s, i: {"text": text(s), "label": ["a", "b"][i % 2]})
    assert propose(sample_of(**dict.fromkeys(splits, rows))).values["splits"] == roles


def test_a_split_without_a_role_is_pointed_out(sample_of: Any) -> None:
    rows = rows_of(lambda s, i: {"text": text(s), "label": ["a", "b"][i % 2]})
    found = propose(sample_of(train=rows, unlabeled=rows))
    assert any("no role reads the split 'unlabeled'" in remark for remark in found.remarks)


def test_what_is_given_stands_and_the_rest_follows(sample_of: Any) -> None:
    rows = rows_of(
        lambda s, i: {"text": text(s), "label": ["a", "b"][i % 2], "score": s.random() * 4}
    )
    found = propose(sample_of(train=rows), {"target": "score"}).values
    assert (found["head"], found["range"], found["metrics"][0]) == ("regression", [0, 4], "pearson")
    found = propose(sample_of(train=rows), {"format": "pair"})
    assert found.values["format"] == "pair"
    assert {"first", "second"} <= set(found.missing)


def test_an_uneven_task_is_not_scored_by_accuracy(sample_of: Any) -> None:
    rows = rows_of(lambda s, i: {"text": text(s), "label": "spam" if i % 10 == 0 else "ham"})
    found = propose(sample_of(train=rows))
    assert found.values["metrics"] == ["macro_f1", "accuracy"]
    assert found.reasons["metrics"] == "the most frequent label has 90% of the rows"


def test_nothing_to_go_by(sample_of: Any) -> None:
    found = propose(sample_of(train=[{"a": 1}, {"a": 2}]))
    assert "format" in found.missing
    assert "family" in found.missing


def test_types_are_those_that_the_reader_gives(tmp_path: Any) -> None:
    path = tmp_path / "t.csv"
    path.write_text("n,x,yes,mixed,empty,a b,c-d\n1,0.5,true,1,,u,7\n2,1,false,x,,v,8\n", "utf-8")
    sample = sample_files({"t": path})
    assert sample.columns == {
        "n": "integer", "x": "number", "yes": "boolean", "mixed": "string", "empty": "any",
    }  # fmt: skip
    assert sample.unusable == ("a b", "c-d")
    (_, first), _ = read_rows(path, sample.columns)
    assert first == {"n": 1, "x": 0.5, "yes": True, "mixed": "1", "empty": ""}
