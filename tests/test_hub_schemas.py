"""The shipped specs against the columns, splits and labels that the hub states for each dataset.

The statements are committed as `task_specs/hub_facts.json`, so these tests need no download. Where
the snapshot of the hub's metadata that they come from lies beside the checkout, the committed facts
are held against it, and a spec that has none yet is held against the snapshot itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from facts.collect import facts_in

from muppet_zoo.hub.facts import Facts, key_of, read_facts
from muppet_zoo.zoo import load_zoo

if TYPE_CHECKING:
    from muppet_zoo.spec import TaskSpec

SNAPSHOT = Path(__file__).parents[1].parent / "shared" / "hub_schemas"

COMMITTED = read_facts()
HUB_TASKS = {name: spec for name, spec in load_zoo().tasks.items() if spec.source.hub}


def stated(spec: TaskSpec) -> Facts | None:
    """What the hub says of the spec's configuration."""
    facts = COMMITTED.get(key_of(spec))
    return facts_in(SNAPSHOT, spec) if facts is None and SNAPSHOT.is_dir() else facts


def target_labels(spec: TaskSpec) -> list[str]:
    """The hub's names of the column that is the target; none where row operations made it."""
    facts, target = stated(spec), getattr(spec.head, "target", None)
    return list(facts["labels"].get(target, ())) if facts and isinstance(target, str) else []


STATED = {name: spec for name, spec in HUB_TASKS.items() if stated(spec)}
LABELLED = {
    name: spec
    for name, spec in STATED.items()
    if getattr(spec.head, "labels", ()) and target_labels(spec)
}

every_stated_spec = pytest.mark.parametrize("spec", STATED.values(), ids=STATED.keys())


# Nothing that the hub states of these was at hand; their specs stand on public documentation alone.
NOT_STATED = {
    *("SetFit/20_newsgroups", "SetFit/CR", "SetFit/sst5", "SetFit/subj", "benayas/snips"),
    *("cais/mmlu:all", "knkarthick/dialogsum", "sagnikrayc/mctest:mc160"),
    *("sagnikrayc/mctest:mc500", "zapsdcn/chemprot", "zapsdcn/citation_intent", "zapsdcn/sciie"),
}


def test_every_spec_has_committed_facts() -> None:
    missing = sorted({key_of(spec) for spec in HUB_TASKS.values()} - set(COMMITTED))
    assert missing == [], "run `python tests/facts/collect.py FOLDER` and commit hub_facts.json"
    assert {key for key, facts in COMMITTED.items() if facts is None} == NOT_STATED


def test_no_facts_are_left_over() -> None:
    assert sorted(set(COMMITTED) - {key_of(spec) for spec in HUB_TASKS.values()}) == []


@every_stated_spec
def test_columns_are_the_hubs(spec: TaskSpec) -> None:
    facts = stated(spec)
    assert facts is not None
    declared = dict(spec.source.columns)
    opaque = {path for path, kind in declared.items() if kind == "any"}
    hub = {}
    for path, kind in facts["columns"].items():
        outer = next((o for o in opaque if path == o or path.startswith(o + ".")), None)
        hub[outer or path] = "any" if outer else kind
    assert declared == hub


@every_stated_spec
def test_splits_exist_on_the_hub_and_hold_rows(spec: TaskSpec) -> None:
    facts = stated(spec)
    assert facts is not None
    used = {split.split for split in spec.source.splits.values()}
    assert used <= {name for name, rows in facts["rows"].items() if rows > 0}


# What we call a label where the hub has another word for it, read by people; of hlgd the hub's two
# names stand the wrong way round, as its spec says.
LABEL_WORDS = json.loads((Path(__file__).parent / "facts" / "label_words.json").read_text("utf-8"))
every_labelled_spec = pytest.mark.parametrize("spec", LABELLED.values(), ids=LABELLED.keys())


def labels_of_the_hub(spec: TaskSpec) -> list[str]:
    """The hub's names in its order, in our words."""
    words = LABEL_WORDS.get(spec.name, {})
    return [plain(words.get(name, name)) for name in target_labels(spec)]


@every_labelled_spec
def test_labels_are_the_hubs_in_its_order(spec: TaskSpec) -> None:
    labels: tuple[str, ...] = getattr(spec.head, "labels", ())
    assert [plain(label) for label in labels] == labels_of_the_hub(spec)


@every_labelled_spec
def test_labels_in_another_order_are_noticed(spec: TaskSpec) -> None:
    names = labels_of_the_hub(spec)
    assert len(set(names)) == len(names)  # so that no two can change places unseen


def test_no_word_for_a_label_is_left_over() -> None:
    assert LABEL_WORDS.keys() <= LABELLED.keys()
    for name, words in LABEL_WORDS.items():
        assert words.keys() <= set(target_labels(LABELLED[name])), name


def plain(name: str) -> str:
    return name.casefold().replace("_", " ").strip()


@pytest.mark.real_data
@pytest.mark.skipif(not SNAPSHOT.is_dir(), reason=f"no hub metadata in {SNAPSHOT}")
@every_stated_spec
def test_the_committed_facts_are_the_snapshots(spec: TaskSpec) -> None:
    fresh = facts_in(SNAPSHOT, spec)
    if fresh is not None:
        assert COMMITTED.get(key_of(spec), fresh) == fresh
