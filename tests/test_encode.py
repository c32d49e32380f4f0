"""Rows to token ids: segments, targets aligned with tokens, truncation, and what is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers import VOCABULARY, make_spec, word_piece
from hypothesis import given
from hypothesis import strategies as st

from muppet_zoo.encode import EncodedChunk, ExampleEncoder, TokenizerSource, open_tokenizer
from muppet_zoo.errors import UsageError
from muppet_zoo.formats import FORMATS
from muppet_zoo.spec import TaskSpec

CLS, SEP = VOCABULARY.index("[CLS]"), VOCABULARY.index("[SEP]")
LIKE = pytest.mark.parametrize("like", ["bert", "roberta"])

# Every format: the spec's parts, a row, and the same row's target.
KINDS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "single": (
        {
            "columns": "{text: string, label: label}",
            "inputs": '{format: single, text: "{text}"}',
        },
        {"text": "the cat sat", "label": 1},
    ),
    "pair": ({}, {"first": "the cat sat", "second": "a dog ran", "label": 0}),
    "multiple_choice": (
        {
            "columns": "{question: string, options: strings, answer: integer}",
            "inputs": '{format: multiple_choice, context: "{question}", choices: options}',
            "head": "{type: multiple_choice, target: answer}",
        },
        {"question": "who ran", "options": ["the cat", "a dog ran", "it"], "answer": 2},
    ),
    "extractive_qa": (
        {
            "columns": "{q: string, c: string, answers: strings, starts: integers}",
            "inputs": '{format: extractive_qa, question: "{q}", context: c}',
            "head": "{type: span, answers: answers, answer_starts: starts}",
            "metrics": "[squad_f1]",
        },
        {"q": "who sat", "c": "The cat sat.", "answers": ["cat"], "starts": [4]},
    ),
    "tokens": (
        {
            "columns": "{words: strings, tags: labels}",
            "inputs": "{format: tokens, tokens: words}",
            "head": "{type: token_classification, target: tags, labels: [O, B-animal]}",
        },
        {"words": ["the", "cats", "planning"], "tags": [0, 1, 0]},
    ),
    "text_to_text": (
        {
            "columns": "{text: string, answer: string}",
            "inputs": '{format: text_to_text, text: "{text}"}',
            "head": '{type: generation, target: "{answer}", max_target_tokens: 5}',
            "metrics": "[rouge1]",
        },
        {"text": "who sat", "answer": "the cat"},
    ),
}


def spec_of(folder: Path, kind: str, **parts: str) -> TaskSpec:
    return make_spec(folder, **{**KINDS[kind][0], **parts})


def encode(
    spec: TaskSpec,
    tokenizer: TokenizerSource,
    *rows: dict[str, Any],
    max_tokens: int = 32,
    labelled: bool = True,
) -> EncodedChunk:
    return ExampleEncoder(spec, tokenizer, max_tokens).encode(enumerate(rows), labelled=labelled)


def column(chunk: EncodedChunk, name: str) -> list[Any]:
    values: list[Any] = chunk.batch.column(name).to_pylist()
    return values


def words(ids: list[int]) -> str:
    return " ".join(VOCABULARY[i] for i in ids)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("labelled", [True, False])
def test_every_format_is_encoded(kind: str, labelled: bool, tmp_path: Path) -> None:
    assert kind in KINDS, f"write a case for the format {kind}"
    row = KINDS[kind][1]
    chunk = encode(spec_of(tmp_path, kind), word_piece(tmp_path), row, row, labelled=labelled)
    assert chunk.batch.num_rows == 2
    assert column(chunk, "row") == [0, 1]
    sequences = [ids if isinstance(ids[0], list) else [ids] for ids in column(chunk, "input_ids")]
    assert chunk.lengths.tolist() == [max(map(len, options)) for options in sequences]
    assert chunk.num_tokens == sum(len(ids) for options in sequences for ids in options)
    assert (chunk.num_truncated, chunk.num_targets_cut, chunk.bad_rows) == (0, 0, ())
    assert bool(chunk.labels) == (labelled and kind not in ("extractive_qa", "text_to_text"))


@pytest.mark.parametrize("kind", FORMATS)
def test_an_empty_chunk_has_the_same_columns(kind: str, tmp_path: Path) -> None:
    spec, tokenizer = spec_of(tmp_path, kind), word_piece(tmp_path)
    empty, full = encode(spec, tokenizer), encode(spec, tokenizer, KINDS[kind][1])
    assert empty.batch.num_rows == 0
    assert empty.batch.schema == full.batch.schema
    assert len(empty.lengths) == empty.num_tokens == empty.num_truncated == 0


@LIKE
def test_second_start_of_a_pair(like: str, tmp_path: Path) -> None:
    chunk = encode(spec_of(tmp_path, "pair"), word_piece(tmp_path, like=like), KINDS["pair"][1])
    (ids,), (start,) = column(chunk, "input_ids"), column(chunk, "second_start")
    between = "[SEP]" if like == "bert" else "[SEP] [SEP]"
    assert words(ids) == f"[CLS] the cat sat {between} a dog ran [SEP]"
    assert words(ids[start:]) == "a dog ran [SEP]"


@LIKE
@pytest.mark.parametrize("kind", ["single", "tokens", "text_to_text"])
def test_second_start_without_a_second_segment_is_the_length(
    kind: str, like: str, tmp_path: Path
) -> None:
    chunk = encode(spec_of(tmp_path, kind), word_piece(tmp_path, like=like), KINDS[kind][1])
    assert column(chunk, "second_start") == [len(ids) for ids in column(chunk, "input_ids")]


@LIKE
def test_options_are_nested(like: str, tmp_path: Path) -> None:
    row = KINDS["multiple_choice"][1]
    two = {**row, "options": ["it", "a cat sat on the mat"], "answer": "1"}
    tokenizer = word_piece(tmp_path, like=like)
    chunk = encode(spec_of(tmp_path, "multiple_choice"), tokenizer, row, two)
    between = "[SEP]" if like == "bert" else "[SEP] [SEP]"
    assert [[words(ids) for ids in options] for options in column(chunk, "input_ids")] == [
        [f"[CLS] who ran {between} {o} [SEP]" for o in ("the cat", "a dog ran", "it")],
        [f"[CLS] who ran {between} {o} [SEP]" for o in ("it", "a cat sat on the mat")],
    ]
    start = 4 if like == "bert" else 5
    assert column(chunk, "second_start") == [[start] * 3, [start] * 2]
    assert chunk.lengths.tolist() == [start + 4, start + 7]
    assert column(chunk, "target") == [2, 1]


def test_truncation_takes_from_the_longer_segment_and_is_counted(tmp_path: Path) -> None:
    spec, tokenizer = spec_of(tmp_path, "pair"), word_piece(tmp_path)
    long, short = "the cat sat on a mat", "it ran"
    rows = [
        {"first": long, "second": short, "label": 0},
        {"first": short, "second": short, "label": 0},
    ]
    chunk = encode(spec, tokenizer, *rows, max_tokens=8)
    assert [words(ids) for ids in column(chunk, "input_ids")] == [
        "[CLS] the cat sat [SEP] it ran [SEP]",
        "[CLS] it ran [SEP] it ran [SEP]",
    ]
    assert chunk.num_truncated == 1


def test_max_tokens_must_leave_room(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "pair")
    encode(spec, word_piece(tmp_path), KINDS["pair"][1], max_tokens=5)
    with pytest.raises(
        UsageError, match="--max-tokens 4 leaves no room for text: the tokenizer adds 4"
    ):
        encode(spec, word_piece(tmp_path, like="roberta"), max_tokens=4)


# --- spans -----------------------------------------------------------------------------------


@LIKE
def test_a_span_covers_the_answer(like: str, tmp_path: Path) -> None:
    chunk = encode(
        spec_of(tmp_path, "extractive_qa"),
        word_piece(tmp_path, like=like),
        KINDS["extractive_qa"][1],
    )
    ((first, last),), (ids,) = column(chunk, "target"), column(chunk, "input_ids")
    assert words(ids[first : last + 1]) == "cat"
    (offsets,), (start,) = column(chunk, "offsets"), column(chunk, "second_start")
    assert offsets[2 * first : 2 * last + 2] == [4, 7]
    assert offsets[: 2 * start] == [0] * (2 * start)
    assert len(offsets) == 2 * len(ids)
    assert column(chunk, "context") == ["The cat sat."]
    assert column(chunk, "answers") == [["cat"]]


def test_a_long_context_becomes_several_records(tmp_path: Path) -> None:
    context = "The cat sat on the mat. A dog ran."
    rows = [
        {"q": "who", "c": context, "answers": [answer], "starts": [context.index(answer)]}
        for answer in ("cat sat", "dog", "sat on the mat. A dog")
    ]
    # [CLS] who [SEP] and five tokens of the context, of which windows share two, [SEP]
    spec, tokenizer = spec_of(tmp_path, "extractive_qa"), word_piece(tmp_path)
    chunk = encode(spec, tokenizer, *rows, max_tokens=9)
    assert column(chunk, "row") == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert column(chunk, "window") == [0, 1, 2] * 3
    texts = ["The cat sat on the", "on the mat. A", ". A dog ran."]
    assert column(chunk, "context") == texts * 3
    lost = [-1, -1]
    assert column(chunk, "target") == [[4, 5], lost, lost, lost, lost, [5, 5], lost, lost, lost]
    assert chunk.num_examples == 3
    assert chunk.num_targets_cut == 1
    assert chunk.num_truncated == 0

    encoder = ExampleEncoder(spec, tokenizer, 9)
    training = encoder.encode(enumerate(rows), labelled=True, every_window=False)
    assert column(training, "row") == [0, 1, 2]
    assert column(training, "window") == [0, 0, 0]
    assert column(training, "context") == [texts[0], texts[2], texts[0]]
    assert column(training, "target") == [[4, 5], [5, 5], lost]
    assert training.num_examples == 3
    assert training.num_targets_cut == 1


def test_an_unlabelled_span_keeps_what_scoring_needs(tmp_path: Path) -> None:
    row = {"q": "who", "c": "The cat sat."}
    spec = spec_of(tmp_path, "extractive_qa")
    chunk = encode(spec, word_piece(tmp_path), row, labelled=False)
    assert column(chunk, "target") == [[-1, -1]]
    assert column(chunk, "context") == ["The cat sat."]
    assert column(chunk, "answers") == [[]]
    assert any(column(chunk, "offsets")[0])
    assert chunk.num_targets_cut == 0


PIECES = st.lists(
    st.sampled_from(["the", "cats", "Paris", "played", "zzz", "é", "running", ",", "?"]),
    min_size=1,
    max_size=12,
)

SPACE = st.sampled_from([" ", "  ", "\n", " - "])


@given(pieces=PIECES, spaces=st.lists(SPACE, min_size=12, max_size=12), data=st.data())
def test_decoded_spans_cover_their_answers(
    pieces: list[str],
    spaces: list[str],
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    context = "".join(piece + space for piece, space in zip(pieces, spaces, strict=False))
    start = data.draw(st.integers(0, len(context) - 1))
    end = data.draw(st.integers(start + 1, len(context)))
    answer = context[start:end]
    if not answer.strip():
        return
    folder = tmp_path_factory.getbasetemp()
    like = data.draw(st.sampled_from(["bert", "roberta"]))
    row = {"q": "who ran ?", "c": context, "answers": [answer], "starts": [start]}
    spec = spec_of(folder, "extractive_qa")
    max_tokens = data.draw(st.sampled_from([9, 12, 64]))
    chunk = encode(spec, word_piece(folder, like=like), row, max_tokens=max_tokens)
    windows = chunk.batch.to_pylist()
    found = [window for window in windows if window["target"] != [-1, -1]]
    assert chunk.num_targets_cut == (not found)
    assert chunk.num_truncated in (0, len(windows))  # the question may be cut, the context not
    assert len(windows) == 1 or len(windows[0]["input_ids"]) == max_tokens
    for window in found:
        (first, last), offsets = window["target"], window["offsets"]
        covered = window["context"][offsets[2 * first] : offsets[2 * last + 1]]
        assert answer.strip() in covered
        # No token more than needed: the first and the last overlap the answer.
        if len(windows) == 1:
            assert offsets[2 * first + 1] > start
            assert offsets[2 * last] < end


# --- other targets ---------------------------------------------------------------------------


@LIKE
def test_a_word_label_stands_on_the_first_token(like: str, tmp_path: Path) -> None:
    row = KINDS["tokens"][1]
    chunk = encode(spec_of(tmp_path, "tokens"), word_piece(tmp_path, like=like), row)
    (ids,) = column(chunk, "input_ids")
    assert words(ids) == "[CLS] the cat ##s [UNK] [SEP]"
    assert column(chunk, "target") == [[-100, 0, 1, -100, 0, -100]]
    assert column(chunk, "first_token") == [[1, 2, 4]]
    assert column(chunk, "tags") == [[0, 1, 0]]
    assert chunk.labels == {"O": 2, "B-animal": 1}


def test_words_that_truncation_removed_are_counted(tmp_path: Path) -> None:
    row = KINDS["tokens"][1]
    chunk = encode(spec_of(tmp_path, "tokens"), word_piece(tmp_path), row, max_tokens=5)
    assert column(chunk, "target") == [[-100, 0, 1, -100, -100]]
    assert column(chunk, "first_token") == [[1, 2, -1]]
    assert column(chunk, "tags") == [[0, 1, 0]]  # which the model has to answer for all the same
    assert (chunk.num_truncated, chunk.num_targets_cut) == (1, 1)


def test_unlabelled_words_score_nowhere(tmp_path: Path) -> None:
    row = {"words": ["the", "cat"]}
    chunk = encode(spec_of(tmp_path, "tokens"), word_piece(tmp_path), row, labelled=False)
    assert column(chunk, "target") == [[-100] * 4]
    assert column(chunk, "first_token") == [[1, 2]]
    assert column(chunk, "tags") == [[]]


def test_unlabelled_classes_options_and_texts(tmp_path: Path) -> None:
    tokenizer = word_piece(tmp_path)
    for kind, unlabelled in (("pair", -1), ("multiple_choice", -1), ("text_to_text", [])):
        row = {k: v for k, v in KINDS[kind][1].items() if k not in ("label", "answer")}
        chunk = encode(spec_of(tmp_path, kind), tokenizer, row, labelled=False)
        assert column(chunk, "target") == [unlabelled]
        assert not chunk.labels


def test_an_answer_text_is_cut_to_its_own_length(tmp_path: Path) -> None:
    rows = [
        {"text": "who sat on the mat ? the cat", "answer": answer}
        for answer in ("the cat", "the cat sat on the mat")
    ]
    spec = spec_of(tmp_path, "text_to_text")
    chunk = encode(spec, word_piece(tmp_path), *rows, max_tokens=8)
    assert [words(ids) for ids in column(chunk, "target")] == [
        "[CLS] the cat [SEP]",
        "[CLS] the cat sat [SEP]",
    ]
    assert chunk.num_targets_cut == 1
    # The inputs' own length holds for them, before and after answers were encoded.
    assert [len(ids) for ids in column(chunk, "input_ids")] == [8, 8]
    encoder = ExampleEncoder(spec, word_piece(tmp_path), 8)
    for _ in range(2):
        again = encoder.encode(enumerate(rows), labelled=True)
        assert again.batch.equals(chunk.batch)


def test_an_answer_needs_room_beside_special_tokens(tmp_path: Path) -> None:
    head = '{type: generation, target: "{answer}", max_target_tokens: 2}'
    with pytest.raises(UsageError, match="max_target_tokens: 2 leaves no room for an answer"):
        encode(spec_of(tmp_path, "text_to_text", head=head), word_piece(tmp_path))


# --- token types and bad rows ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("vocab_size", "expected"), [(1 << 16, pa.uint16()), ((1 << 16) + 1, pa.uint32())]
)
def test_ids_are_as_small_as_the_vocabulary_allows(
    vocab_size: int, expected: pa.DataType, tmp_path: Path
) -> None:
    tokenizer = word_piece(tmp_path, padding=vocab_size - len(VOCABULARY))
    assert tokenizer.vocab_size == vocab_size
    last = f"unused{vocab_size - len(VOCABULARY) - 1}"
    row = {"first": last, "second": "it", "label": 0}
    chunk = encode(spec_of(tmp_path, "pair"), tokenizer, row)
    assert chunk.batch.schema.field("input_ids").type == pa.list_(expected)
    assert column(chunk, "input_ids")[0][1] == vocab_size - 1
    spec = spec_of(tmp_path, "text_to_text")
    chunk = encode(spec, tokenizer, {"text": "it", "answer": last})
    assert chunk.batch.schema.field("target").type == pa.list_(expected)
    assert column(chunk, "target") == [[CLS, vocab_size - 1, SEP]]


def test_bad_rows_are_listed_and_left_out(tmp_path: Path) -> None:
    good = KINDS["pair"][1]
    rows = [good, {**good, "label": 7}, {"first": "it", "label": 0}, good]
    chunk = encode(spec_of(tmp_path, "pair"), word_piece(tmp_path), *rows)
    assert column(chunk, "row") == [0, 3]
    assert [(row, reason[:35]) for row, reason in chunk.bad_rows] == [
        (1, "column 'label' holds 7, which is no"),
        (2, "column 'second' is missing (found: "),
    ]


def test_a_row_that_explodes_is_whole_or_not_there(tmp_path: Path) -> None:
    spec = spec_of(
        tmp_path,
        "pair",
        columns="{texts: strings, labels: labels, second: string}",
        rows="[{op: explode, columns: {texts: first, labels: label}}]",
    )
    good = {"texts": ["the cat", "a dog"], "labels": [0, 1], "second": "it"}
    bad = {**good, "labels": [0, 9]}
    chunk = encode(spec, word_piece(tmp_path), good, bad, good)
    assert column(chunk, "row") == [0, 0, 2, 2]
    assert column(chunk, "target") == [0, 1, 0, 1]
    assert [row for row, _ in chunk.bad_rows] == [1]


def test_a_dropped_row_is_no_bad_row(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "pair", rows="[{op: drop_where, column: label, values: [-1]}]")
    good = KINDS["pair"][1]
    chunk = encode(spec, word_piece(tmp_path), {**good, "label": -1}, good)
    assert column(chunk, "row") == [1]
    assert chunk.bad_rows == ()


# --- opening tokenizers ----------------------------------------------------------------------


def test_a_tokenizer_is_known_by_its_bytes(tmp_path: Path) -> None:
    saved = word_piece(tmp_path)
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "tokenizer.json").write_bytes(saved.path.read_bytes())
    opened = [open_tokenizer(str(folder)) for folder in folders]
    assert opened[0].digest == opened[1].digest == saved.digest
    assert opened[0].name != opened[1].name
    assert open_tokenizer(str(saved.path)).digest == saved.digest


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_encoders_of_one_thread_do_not_disturb_each_other(
    kind: str, other: str, tmp_path: Path
) -> None:
    """They have one tokenizer object, whose truncation each sets."""
    tokenizer, row = word_piece(tmp_path), KINDS[kind][1]
    spec = spec_of(tmp_path, kind)
    second = spec_of(tmp_path, other)
    alone = encode(spec, tokenizer, row, max_tokens=12)
    ours = ExampleEncoder(spec, tokenizer, 12)
    for max_tokens in (5, 40):
        encode(second, tokenizer, KINDS[other][1], max_tokens=max_tokens + 3)
        assert ours.encode([(0, row)], labelled=True).batch.equals(alone.batch)


def test_a_folder_without_a_tokenizer_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no tokenizer\.json in '.*'; give a folder that has one"):
        open_tokenizer(str(tmp_path))
    with pytest.raises(UsageError, match=r"no tokenizer\.json in './nothing'"):
        open_tokenizer("./nothing")


def test_a_damaged_tokenizer_is_explained(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match=r"tokenizer\.json cannot be read as a tokenizer: "):
        open_tokenizer(str(tmp_path)).load()


def test_a_tokenizer_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UsageError, match=r"tokenizer\.json: cannot be read: Permission denied"):
        open_tokenizer(str(tmp_path))
