"""Real rows through the real pipeline: the shipped specs, unchanged, on the data they describe.

The rows lie beside the checkout and are never part of it (their licences differ); where they are
absent these tests are skipped and say so.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muppet_zoo.batches import Batcher, Batching
from muppet_zoo.build import BuildOptions, BuildReport, build
from muppet_zoo.collate import collate
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.manifests import Manifest, read_manifest
from muppet_zoo.mixture import Rates
from muppet_zoo.order import Order, quotas
from muppet_zoo.overlap.compare import Places, evaluation_splits, find_overlap, train_splits
from muppet_zoo.row_pool import RowPool
from muppet_zoo.shards import open_task, verify
from muppet_zoo.sources import MissingSplitError, open_rows
from muppet_zoo.zoo import Zoo, load_zoo, shipped_specs

MIRROR = Path(__file__).parent.parent.parent / "shared" / "data"
TOKENIZER = shipped_specs() / "quickstart" / "tiny_encoder"
LIMIT = 1500
MIXED = ("cola", "sst2", "mrpc", "rte", "boolq", "snli", "scicite", "rotten_tomatoes", "wiki_qa",
         "trec", "commonsense_qa", "openbookqa", "arc_easy", "stsb")  # fmt: skip

# WSC's rows are those from before its numbers of words were corrected.
MAX_BAD_ROWS = {"wsc": 3}
# Folders that no spec reads, and why.
WITHOUT_SPEC = {
    "drop_contrast": "perturbed questions from another repository; not DROP's own test set",
    "mpqa": "not on the hub under a name that could be checked",
    "nq_open": "questions without any context: nothing for a span to stand in",
    "sciq_no_distractors": "SciQ without the wrong options",
    "superglue_rte": "the rows of GLUE's RTE, which is task rte",
    "trivia_qa_nocontext": "no evidence in which a span could stand",
}
# These rows are in another layout than the hub's, which is what the spec reads: Google's own, and
# numbers in place of the intents' names.
OTHER_LAYOUT = {"natural_questions", "snips"}

# What the publishers say of their numbers, not what the specs say: label names in order -> tasks.
LABELS = {
    ("entailment", "neutral", "contradiction"): "anli_r1 anli_r2 anli_r3 mnli snli",
    ("entailment", "contradiction", "neutral"): "cb",
    ("entailment", "not entailment"): "hans qnli rte",
    ("not entailment", "entailment"): "wnli",
    ("negative", "positive"): "cr imdb rotten_tomatoes sst2 yelp_polarity",
    ("negative", "neutral", "positive"): "tweet_eval_sentiment",
    ("very negative", "negative", "neutral", "positive", "very positive"): "sst5",
    ("objective", "subjective"): "subj",
    ("unacceptable", "acceptable"): "cola",
    ("no", "yes"): "boolq",
    ("not equivalent", "equivalent"): "mrpc",
    ("not duplicate", "duplicate"): "qqp",
    ("different meaning", "paraphrase"): "paws",
    ("wrong answer", "right answer"): "multirc eraser_multi_rc",
    ("not an answer", "answer"): "wiki_qa",
    ("other meaning", "same meaning"): "wic",
    ("refers to something else", "refers to the phrase"): "wsc",
    ("method", "background", "result"): "scicite",
    ("world", "sports", "business", "science and technology"): "ag_news",
    ("hate speech", "offensive language", "neither"): "hate_speech_offensive",
    ("abbreviation", "entity", "description", "human", "location", "number"): "trec",
    ("anger", "joy", "optimism", "sadness"): "tweet_eval_emotion",
    ("no hate", "hate"): "tweet_eval_hate",
    ("not ironic", "ironic"): "tweet_eval_irony",
    ("not offensive", "offensive"): "tweet_eval_offensive",
    ("no stance", "against", "in favour"): "tweet_eval_stance_abortion tweet_eval_stance_atheism "
    "tweet_eval_stance_climate tweet_eval_stance_feminist tweet_eval_stance_hillary",
}
LABEL_COLUMNS = {"hate_speech_offensive": "class", "trec": "coarse_label"}
NAMES_IN_ROWS = {"banking77": ("label", "label_text"), "clinc_oos": ("intent", "intent_text")}
# The position of the right option in a row.
CHOICES: dict[str, Callable[[dict[str, Any]], int]] = {
    **dict.fromkeys(
        ("arc_easy", "arc_challenge", "commonsense_qa", "openbookqa"),
        lambda row: row["choices"]["label"].index(row["answerKey"]),
    ),
    **dict.fromkeys(
        ("copa", "cosmos_qa", "hellaswag", "piqa", "swag"), lambda row: int(row["label"])
    ),
    **dict.fromkeys(("mctest_mc160", "mctest_mc500"), lambda row: "ABCD".index(row["answer"])),
    "dream": lambda row: row["choice"].index(row["answer"]),
    "math_qa": lambda row: "abcde".index(row["correct"]),
    "quail": lambda row: row["correct_answer_id"],
    "sciq": lambda row: 0,
    "social_i_qa": lambda row: int(row["label"]) - 1,
    "winogrande": lambda row: int(row["answer"]) - 1,
}
# What the text columns are, for tasks that show them unchanged.
TEXTS = {
    ("text",): "ag_news banking77 clinc_oos cr imdb rotten_tomatoes sst5 subj trec trec_fine "
    "tweet_eval_emoji tweet_eval_emotion tweet_eval_irony tweet_eval_sentiment yelp_polarity",
    ("sentence",): "cola sst2",
    ("string",): "scicite",
    ("tweet",): "hate_speech_offensive",
    ("premise", "hypothesis"): "anli_r1 anli_r2 anli_r3 cb hans mnli scitail",
    ("sentence1", "sentence2"): "mrpc paws rte stsb wnli",
    ("question", "passage"): "boolq",
    ("question", "sentence"): "qnli",
    ("question1", "question2"): "qqp",
    ("question", "answer"): "wiki_qa",
    ("email_body",): "aeslc",
    ("document",): "xsum",
    ("article",): "cnn_dailymail",
}

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not MIRROR.is_dir(), reason=f"no real rows in {MIRROR}"),
]


def by_task(table: dict[tuple[str, ...], str]) -> dict[str, tuple[str, ...]]:
    return {task: names for names, tasks in table.items() for task in tasks.split()}


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return load_zoo()


@pytest.fixture(scope="module")
def files(zoo: Zoo) -> dict[str, dict[str, Path]]:
    """Task → role → the mirror's file, for all that the mirror holds."""
    found: dict[str, dict[str, Path]] = {}
    for name, spec in zoo.tasks.items():
        for role in spec.source.splits if spec.source.hub else ():
            try:
                place = open_rows(spec, role, mirror=MIRROR).place
            except MissingSplitError:
                continue
            found.setdefault(name, {})[role] = Path(place.where)
    return found


@pytest.fixture(scope="module")
def built(
    zoo: Zoo, files: dict[str, dict[str, Path]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, BuildReport]:
    out = tmp_path_factory.mktemp("real") / "data"
    specs = [zoo.task(name) for name in files if name not in OTHER_LAYOUT]
    options = BuildOptions(mirror=MIRROR, limit=LIMIT)
    report = build(specs, tokenizer=open_tokenizer(str(TOKENIZER)), out=out, options=options)
    return out, report


def manifests(built: tuple[Path, BuildReport]) -> Iterator[tuple[str, str, Manifest]]:
    for outcome in built[1].outcomes:
        manifest = read_manifest(built[0] / outcome.task / outcome.role)
        if manifest is not None:
            yield outcome.task, outcome.role, manifest


def raw_rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def test_every_folder_has_a_spec_or_a_reason(files: dict[str, dict[str, Path]]) -> None:
    read = {path.parent.name for roles in files.values() for path in roles.values()}
    folders = {path.name for path in MIRROR.iterdir() if path.is_dir()}
    assert folders - read == WITHOUT_SPEC.keys()


def test_every_task_with_rows_builds(built: tuple[Path, BuildReport], zoo: Zoo) -> None:
    """But for train splits without rows in the folder, and a split carved from two rows."""
    out, report = built
    failed = {(o.task, o.role): str(o.error) for o in report.outcomes if o.status == "failed"}
    failed.pop(("yelp_polarity", "validation"), None)
    absent = {key for key, error in failed.items() if "no file for split 'train" in error}
    assert failed.keys() == absent
    tasks = {outcome.task for outcome in report.outcomes}
    assert len(tasks) >= 75
    for outcome in report.outcomes:
        if outcome.status != "built":
            continue
        manifest = verify(out, outcome.task, outcome.role)
        assert manifest.num_examples > 0
        assert manifest.num_bad_rows <= MAX_BAD_ROWS.get(outcome.task, 0)
        spec = zoo.task(outcome.task)
        if spec.num_labels and spec.source.splits[outcome.role].labels:
            assert manifest.label_histogram.keys() <= set(spec.raw["head"]["labels"])
            assert manifest.label_histogram


def counted(task: str, rows: Iterator[dict[str, Any]]) -> Counter[str]:
    """How often each label stands in the rows, read without the spec."""
    if task in CHOICES:
        return Counter(str(CHOICES[task](row)) for row in rows)
    if task in ("wnut_17", "ncbi_disease"):
        return Counter(tag for row in rows for tag in row["ner_tags"])
    if task == "scitail":
        return Counter(row["label"] for row in rows)
    if task in NAMES_IN_ROWS:
        name = NAMES_IN_ROWS[task][1]
        return Counter(row[name].replace("_", " ").rstrip("?").casefold() for row in rows)
    if task == "stsb":
        return Counter(str(round(row["label"])) for row in rows)
    names, column = by_task(LABELS)[task], LABEL_COLUMNS.get(task, "label")
    # SNLI's pairs without agreement have -1; a few tweets are empty.
    kept = (row for row in rows if row[column] != -1 and row.get("text", "-"))
    return Counter(names[row[column]] for row in kept)


def test_labels_are_distributed_as_in_the_files(
    built: tuple[Path, BuildReport], zoo: Zoo, files: dict[str, dict[str, Path]]
) -> None:
    # The names of these are many, and their numbers alone say too little.
    others = {"trec_fine", "tweet_eval_emoji"}
    seen = set()
    for task, role, manifest in manifests(built):
        splits = zoo.task(task).source.splits
        path = files[task].get(role)
        carved = any(s.carve_percent and s.split == splits[role].split for s in splits.values())
        if not splits[role].labels:
            assert manifest.label_histogram == {}
        elif manifest.label_histogram and path and task not in others and not carved:
            found = Counter(manifest.label_histogram)
            if task in NAMES_IN_ROWS:
                found = Counter({k.casefold(): n for k, n in found.items()})
            expected = counted(task, islice(raw_rows(path), LIMIT))
            assert (expected - found).total() <= manifest.num_bad_rows, (task, role)
            assert found <= expected, (task, role)
            seen.add(task)
    assert len(seen) >= 55


def test_carved_splits_share_out_the_labels_of_their_file(
    zoo: Zoo, files: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    """Together they have the labels of the whole file, as often."""
    names = [name for name in ("ag_news", "cr", "imdb", "subj", "trec", "banking77") if files[name]]
    build(
        [zoo.task(name) for name in names],
        tokenizer=open_tokenizer(str(TOKENIZER)),
        out=tmp_path,
        options=BuildOptions(mirror=MIRROR, max_tokens=16),
    )
    for name in names:
        roles = [role for role, path in files[name].items() if path.name == "train.jsonl.gz"]
        assert len(roles) > 1
        found: Counter[str] = Counter()
        for role in roles:
            manifest = read_manifest(tmp_path / name / role)
            assert manifest is not None
            found += Counter(manifest.label_histogram)
        if name in NAMES_IN_ROWS:
            found = Counter({key.casefold(): count for key, count in found.items()})
        assert found == counted(name, raw_rows(files[name]["train"])), name


def test_lengths_are_those_of_the_files_texts(
    built: tuple[Path, BuildReport], files: dict[str, dict[str, Path]]
) -> None:
    tokenizer = open_tokenizer(str(TOKENIZER)).load()
    tokenizer.enable_truncation(128)
    texts = by_task(TEXTS)
    seen = set()
    for task, role, _ in manifests(built):
        if task not in texts:
            continue
        data = open_task(built[0], task, role)
        first = np.arange(min(40, data.num_examples))
        numbers = data.column("row", first)
        rows = list(islice(raw_rows(files[task][role]), max(numbers) + 1))
        expected = [
            len(tokenizer.encode(*(rows[number][column] for column in texts[task])).ids)
            for number in numbers
        ]
        found = [len(data.record(row).sequences[0]) for row in first.tolist()]
        assert found == expected, (task, role)
        seen.add(task)
    assert seen == texts.keys()


def test_mixed_micro_batches_waste_at_most_five_percent(
    built: tuple[Path, BuildReport],
) -> None:
    """14 tasks from 8-word sentences to 120-word passages, at 4,096 tokens a micro-batch."""
    datas = [open_task(built[0], name, "train") for name in MIXED]
    sizes = tuple(data.num_examples for data in datas)
    order = Order(seed=0, task_sizes=sizes, quotas=quotas(sizes, Rates()))
    batcher = Batcher(order=order, datas=datas, batching=Batching(tokens_per_micro_batch=4096))
    stop = batcher.num_examples(1)
    pool = RowPool(datas)
    tokens = cells = 0
    num_tasks = []
    for step in batcher.steps(stop_after_examples=stop):
        for plan in step.micro_batches:
            batch = collate(plan, pool, pad_id=0)
            tokens += batch.num_tokens
            cells += batch.input_ids.size
            num_tasks.append(len(set(plan.tasks.tolist())))
    assert 1 - tokens / cells <= 0.05
    assert sum(num_tasks) / len(num_tasks) > 3, "micro-batches are meant to mix tasks"


def test_the_reviews_of_sst2_are_found_among_those_of_rotten_tomatoes(zoo: Zoo) -> None:
    """Both were made from one collection, which the specs say and the rows show."""
    (pair,) = find_overlap(
        train_splits([zoo.task("rotten_tomatoes")]),
        evaluation_splits([zoo.task("sst2")], ["validation"]),
        places=Places(mirror=MIRROR),
    ).pairs
    assert pair.lineage == ("rotten_tomatoes",)
    assert pair.evaluation_rows["exact"] > 600
    assert pair.share > 0.85
