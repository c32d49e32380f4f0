"""Mixtures: what one file may say, and what it means among all files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from muppet_zoo.errors import SpecError
from muppet_zoo.mixture import Member, Mixture, Rates, parse_mixture
from muppet_zoo.mixture_members import resolve_mixtures
from muppet_zoo.order import quotas
from muppet_zoo.yaml_reader import read_yaml
from muppet_zoo.zoo import Zoo, load_zoo

TASKS = ("a", "b", "c", "d")
HEAD = "mixture_version: 1\nname: {}\ndescription: An invented one.\n"


def resolved(folder: Path, **bodies: str) -> tuple[dict[str, Mixture], list[tuple[str, str, str]]]:
    """The mixtures with these bodies, and (mixture, field, message) of every finding."""
    files = []
    for name, body in bodies.items():
        path = folder / f"{name}.yaml"
        path.write_text(HEAD.format(name) + body)
        files.append(parse_mixture(read_yaml(path)))
    mixtures, findings = resolve_mixtures(files, TASKS)
    return mixtures, [(found.path.stem, found.field, found.message) for found in findings]


def one(folder: Path, body: str) -> Mixture:
    mixtures, findings = resolved(folder, some=body)
    assert findings == []
    return mixtures["some"]


def file_findings(folder: Path, body: str) -> list[tuple[str, str]]:
    path = folder / "some.yaml"
    path.write_text(HEAD.format("some") + body)
    with pytest.raises(SpecError) as caught:
        parse_mixture(read_yaml(path))
    return [(found.field, found.message) for found in caught.value.findings]


@pytest.mark.parametrize(
    ("rates", "record"),
    [
        ("", Rates(scheme="natural")),
        ("rates: {scheme: natural}", Rates(scheme="natural")),
        (
            "rates: {scheme: temperature, temperature: 2}",
            Rates(scheme="temperature", temperature=2),
        ),
        ("rates: {scheme: capped, cap: 10}", Rates(scheme="capped", cap=10)),
        (
            "rates: {scheme: explicit, weights: {b: 1, a: 0.5}}",
            Rates(scheme="explicit", weights=(0.5, 1.0)),
        ),
    ],
)
def test_a_mixture_becomes_a_record(rates: str, record: Rates, tmp_path: Path) -> None:
    mixture = one(tmp_path, f"tasks: [a, b]\n{rates}\n")
    assert (mixture.name, mixture.tasks, mixture.rates) == ("some", ("a", "b"), record)


@pytest.mark.parametrize(
    ("body", "findings"),
    [
        (
            "tasks: [a]\nrates: {scheme: even}\n",
            [("rates.scheme", 'found "even"; allowed: natural, temperature, capped, explicit')],
        ),
        (
            "tasks: [a]\nrates: {scheme: natural, temperature: 2}\n",
            [("rates.temperature", "unknown key 'temperature'; allowed: scheme")],
        ),
        (
            "tasks: [a]\nrates: {scheme: temperature, temperature: 0.5}\n",
            [("rates.temperature", "found 0.5, at least 1 is expected")],
        ),
        (
            "tasks: [a]\nrates: {scheme: explicit, weights: {a: 1, b: 0}}\n",
            [("rates.weights.b", "found 0, more than 0 is expected")],
        ),
        ("rates: {scheme: natural}\n", [("tasks", "one of these keys is needed: tasks, mixtures")]),
        (
            "tasks: [a]\nexclude: [a]\n",
            [("exclude", "'exclude' needs 'mixtures', which is missing")],
        ),
        ("tasks: [{task: a, cap: 0}]\n", [("tasks[0].cap", "found 0, at least 1 is expected")]),
        (
            "tasks: [{task: a, wieght: 2}]\n",
            [("tasks[0].wieght", "unknown key 'wieght'; did you mean 'weight'?")],
        ),
        ("tasks: [a, {task: a, cap: 3}]\n", [("tasks[1]", "a is listed twice")]),
        (
            "mixtures: [x, {mixture: x, weight: 2}]\n",
            [("mixtures[1]", "x is listed twice")],
        ),
    ],
)
def test_what_a_file_may_not_say(
    body: str, findings: list[tuple[str, str]], tmp_path: Path
) -> None:
    found = file_findings(tmp_path, body)
    assert [
        (field, message.replace("; allowed: task, cap, weight", "")) for field, message in found
    ] == findings


def test_all_findings_of_a_mixture_together(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    text = HEAD.format("some").replace("version: 1", "version: 2")
    path.write_text(text + "tasks: [a]\nrates: {scheme: capped, cap: 0}\n")
    with pytest.raises(SpecError) as caught:
        parse_mixture(read_yaml(path))
    assert [finding.field for finding in caught.value.findings] == [
        "mixture_version", "name", "rates.cap"
    ]  # fmt: skip


def test_mixtures_nest_with_their_caps_and_weights_but_not_their_rates(tmp_path: Path) -> None:
    mixtures, findings = resolved(
        tmp_path,
        inner="tasks: [a, {task: b, cap: 100, weight: 2}]\nrates: {scheme: capped, cap: 7}\n",
        middle="mixtures: [{mixture: inner, cap: 60, weight: 3}]\ntasks: [c]\n",
        outer="mixtures: [middle]\nexclude: [a]\ntasks: [{task: d, weight: 0.5}]\n",
    )
    assert findings == []
    assert mixtures["outer"].tasks == ("b", "c", "d")
    assert mixtures["outer"].rates == Rates(
        scheme="natural",
        members=(
            Member(task="b", cap=60, weight=6.0),
            Member(task="c"),
            Member(task="d", weight=0.5),
        ),
    )
    # b: min(1000, 60) * 6, c as it is, d: half.
    assert quotas([1000, 80, 50], mixtures["outer"].rates) == (360, 80, 25)


def test_what_counts_is_what_the_scheme_sees(tmp_path: Path) -> None:
    body = "tasks: [{task: a, cap: 100}, {task: b, weight: 4}]\nrates: "
    capped = one(tmp_path, body + "{scheme: capped, cap: 150}\n")
    assert quotas([1000, 50], capped.rates) == (100, 150)
    flat = one(tmp_path, body + "{scheme: temperature, temperature: 2}\n")
    assert quotas([1000, 100], flat.rates) == (167, 333)  # of 100 + 400, as 10 : 20


def test_a_task_that_two_mixtures_have_counts_once(tmp_path: Path) -> None:
    mixtures, findings = resolved(
        tmp_path, one="tasks: [a, b]\n", two="tasks: [b, c]\n", both="mixtures: [one, two]\n"
    )
    assert (mixtures["both"].tasks, findings) == (("a", "b", "c"), [])


def test_two_opinions_on_a_task_need_a_decision(tmp_path: Path) -> None:
    parts = {
        "one": "tasks: [a, b]\n",
        "two": "tasks: [{task: b, cap: 5}]\n",
    }
    _, findings = resolved(tmp_path, **parts, both="mixtures: [one, two]\n")
    message = (
        "b comes with 'one' already, with another cap or weight; "
        "list it under `tasks` to say which holds"
    )
    assert findings == [("both", "mixtures[1]", message)]
    mixtures, findings = resolved(
        tmp_path, **parts, both="mixtures: [one, two]\ntasks: [{task: b, cap: 9}]\n"
    )
    assert findings == []
    assert mixtures["both"].rates.members == (Member(task="a"), Member(task="b", cap=9))


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ("tasks: [a, e]\n", "tasks[1]", "no task is named 'e'; known: a, b, c, d"),
        (
            "tasks: [{task: e, cap: 1}]\n",
            "tasks[0].task",
            "no task is named 'e'; known: a, b, c, d",
        ),
        ("tasks: [inner]\n", "tasks[0]", "'inner' is a mixture; name it under `mixtures`"),
        ("mixtures: [a]\n", "mixtures[0]", "'a' is a task; name it under `tasks`"),
        ("mixtures: [iner]\n", "mixtures[0]", "no mixture is named 'iner'; did you mean 'inner'?"),
        ("mixtures: [some]\n", "mixtures[0]", "a mixture cannot hold itself: some -> some"),
        (
            "mixtures: [inner]\nexclude: [c]\n",
            "exclude[0]",
            "'c' is not one of this mixture's tasks; known: a, b",
        ),
        (
            "mixtures: [inner]\ntasks: [a]\nexclude: [a]\n",
            "exclude[0]",
            "'a' is listed under `tasks` and left out here; decide for one",
        ),
        ("mixtures: [inner]\nexclude: [a, b]\n", "exclude", "no task is left in this mixture"),
        (
            "tasks: [a, b]\nrates: {scheme: explicit, weights: {a: 1}}\n",
            "rates.weights",
            "no weight is given for b; explicit rates name every task",
        ),
        (
            "tasks: [a]\nrates: {scheme: explicit, weights: {a: 1, c: 1}}\n",
            "rates.weights.c",
            "'c' is not one of this mixture's tasks; allowed: a",
        ),
        (
            "tasks: [{task: a, cap: 3}]\nrates: {scheme: explicit, weights: {a: 1}}\n",
            "rates.scheme",
            "explicit rates say how often each task is drawn; leave out the cap and weight of "
            "single tasks and mixtures, or choose another scheme",
        ),
    ],
)
def test_what_a_mixture_may_not_mean(body: str, field: str, message: str, tmp_path: Path) -> None:
    mixtures, findings = resolved(tmp_path, inner="tasks: [a, b]\n", some=body)
    assert findings == [("some", field, message)]
    assert list(mixtures) == ["inner"]


def test_a_ring_is_reported_once(tmp_path: Path) -> None:
    mixtures, findings = resolved(
        tmp_path, one="mixtures: [two]\n", two="mixtures: [one]\n", over="mixtures: [one]\n"
    )
    assert mixtures == {}
    assert findings == [("two", "mixtures[0]", "a mixture cannot hold itself: one -> two -> one")]


def test_a_chain_of_any_length_is_resolved(tmp_path: Path) -> None:
    names = [f"m{i:04d}" for i in range(1500)]
    links = {name: f"mixtures: [{after}]\n" for name, after in pairwise(names)}
    mixtures, findings = resolved(tmp_path, **links, **{names[-1]: "tasks: [a]\n"})
    assert findings == []
    assert mixtures[names[0]].tasks == ("a",)


def test_each_ring_is_reported_and_the_rest_is_resolved(tmp_path: Path) -> None:
    mixtures, findings = resolved(
        tmp_path,
        one="mixtures: [two]\n", two="mixtures: [three, whole]\n", three="mixtures: [one]\n",
        self="mixtures: [self]\n", whole="tasks: [a]\n",
    )  # fmt: skip
    assert sorted(findings) == [
        ("self", "mixtures[0]", "a mixture cannot hold itself: self -> self"),
        ("three", "mixtures[0]", "a mixture cannot hold itself: one -> two -> three -> one"),
    ]
    assert list(mixtures) == ["whole"]


# --- the shipped ones ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return load_zoo()


def test_muppet_is_its_four_families(zoo: Zoo) -> None:
    parts = [
        zoo.mixture(f"muppet_{part}").tasks
        for part in ("classification", "commonsense", "reading_comprehension", "summarization")
    ]
    assert [len(part) for part in parts] == [25, 14, 6, 5]
    assert zoo.mixture("muppet").tasks == tuple(task for part in parts for task in part)
    assert zoo.mixture("muppet-encoder").tasks == tuple(task for part in parts[:3] for task in part)


def test_no_dataset_or_corpus_of_unseen_is_in_muppet(zoo: Zoo) -> None:
    def datasets(mixture: str) -> set[tuple[str | None, str | None]]:
        sources = [zoo.task(name).source for name in zoo.mixture(mixture).tasks]
        return {(source.hub, source.config) for source in sources}

    def corpora(mixture: str) -> set[str]:
        return {c for name in zoo.mixture(mixture).tasks for c in zoo.task(name).lineage}

    assert datasets("unseen") & datasets("muppet") == set()
    assert corpora("unseen") & corpora("muppet") == set()


@pytest.mark.parametrize(
    "suite", ["glue", "superglue", "commonsense", "mrc", "summarization", "unseen"]
)
def test_the_tasks_of_a_suite_can_be_scored(suite: str, zoo: Zoo) -> None:
    for name in zoo.mixture(suite).tasks:
        splits = zoo.task(name).source.splits
        assert any(role != "train" and split.labels for role, split in splits.items()), name
