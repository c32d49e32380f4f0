"""The mirror of the studies on real rows, and their setting; made-up rows here."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.findings.mirror import STAND_INS, make_mirror
from muppet_zoo.shards import check_labelled
from muppet_zoo.study.arms import arms_of
from muppet_zoo.study.design import read_design, read_setting, study_names
from muppet_zoo.yaml_reader import read_yaml
from muppet_zoo.zoo import Zoo, load_zoo

SETTING = read_setting(str(STAND_INS.with_name("real.yaml")))
PLANS = read_yaml(STAND_INS).data


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return load_zoo(SETTING.specs)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Every file that something stands in from, with 25 rows of 8 contexts, and a task without."""
    folder = tmp_path / "source"
    wanted = {("trec", "train"), ("mrpc", "test"), ("squad", "train")}
    for task, roles in PLANS.items():
        name = "anli" if task.startswith("anli_") else task
        wanted |= {(name, file) for plan in roles.values() for file in plan["from"]}
    for task, name in wanted:
        (folder / task).mkdir(parents=True, exist_ok=True)
        with gzip.open(folder / task / f"{name}.jsonl.gz", "wt") as file:
            for i in range(25):
                file.write(json.dumps({"id": f"{task} {name} {i}", "context": i // 3}) + "\n")
    return folder


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_carved_split_shares_no_row_with_the_other(source: Path, tmp_path: Path) -> None:
    mirror = make_mirror(source, tmp_path / "mirror")
    carved = [t for t, roles in PLANS.items() if any(p.get("carve") for p in roles.values())]
    assert "mrpc" in carved
    for task in carved:
        parts = [rows(mirror / task / f"{role}.jsonl") for role in ("train", "validation")]
        train, validation = ({row["id"] for row in part} for part in parts)
        assert validation
        assert train.isdisjoint(validation)
        assert len(train | validation) == 25
    contexts = [
        {row["context"] for row in rows(mirror / "squad" / f"{role}.jsonl")}
        for role in ("train", "validation")
    ]
    assert contexts[0].isdisjoint(contexts[1])


def test_files_that_stand_in_are_taken_together_and_others_linked(
    source: Path, tmp_path: Path
) -> None:
    mirror = make_mirror(source, tmp_path / "mirror")
    found = [row["id"] for row in rows(mirror / "multirc" / "train.jsonl")]
    assert found == [f"multirc {n} {i}" for n in ("train", "validation_rest") for i in range(25)]
    assert (mirror / "trec" / "train.jsonl.gz").samefile(source / "trec" / "train.jsonl.gz")
    assert (mirror / "mrpc" / "test.jsonl.gz").is_file()
    # A stand-in takes the place of a split's own few rows; both would be a conflict.
    assert not (mirror / "squad" / "train.jsonl.gz").exists()


def test_made_again_it_has_the_same_bytes(source: Path, tmp_path: Path) -> None:
    first, again = make_mirror(source, tmp_path / "a"), make_mirror(source, tmp_path / "a")
    other = make_mirror(source, tmp_path / "b")
    names = sorted(path.relative_to(first) for path in first.rglob("*.jsonl"))
    assert len(names) >= len(PLANS)
    assert all((first / n).read_bytes() == (other / n).read_bytes() for n in names)
    assert again == first


def test_no_unseen_target_is_a_dataset_of_the_pool(zoo: Zoo) -> None:
    def datasets(mixture: str) -> set[tuple[Any, ...]]:
        sources = [zoo.task(name).source for name in zoo.mixture(mixture).tasks]
        return {(source.hub, source.config) for source in sources}

    assert datasets("findings_pool").isdisjoint(datasets("findings_unseen"))
    assert set(zoo.mixture("findings_seen").tasks) < set(zoo.mixture("findings_pool").tasks)
    assert len(zoo.mixture("findings_pool").tasks) >= 30
    assert len(zoo.mixture("findings_unseen").tasks) >= 6


@pytest.mark.parametrize("name", study_names())
@pytest.mark.parametrize("encoder", SETTING.encoders, ids=lambda encoder: encoder.name)
def test_every_study_has_its_arms_on_the_pool(name: str, encoder: Any, zoo: Zoo) -> None:
    pool = [zoo.task(task) for task in zoo.mixture(SETTING.pool).tasks]
    arms = arms_of(read_design(name), pool, encoder)
    assert len({arm.name for arm in arms}) == len(arms) >= 2


def test_every_target_has_labels_where_it_is_scored(zoo: Zoo) -> None:
    split = SETTING.finetune["run"]["evaluation"]["split"]
    for target in zoo.named(SETTING.targets):
        check_labelled(target, split)
