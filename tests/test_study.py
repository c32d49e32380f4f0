"""Studies: their arms, the files they make, and what is said of wrong ones; nothing is trained."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from muppet_zoo.cli import cli
from muppet_zoo.errors import SpecError, UnknownNameError, UsageError
from muppet_zoo.finetune.plan import read_plan
from muppet_zoo.run import read_run
from muppet_zoo.spec import TaskSpec
from muppet_zoo.study.arms import StudyArm, arms_of
from muppet_zoo.study.design import (
    Design,
    Encoder,
    Setting,
    read_design,
    read_setting,
    shipped_studies,
    study_names,
)
from muppet_zoo.study.files import Prefinetuning, prefinetuning, target_plans
from muppet_zoo.zoo import Zoo, load_zoo

STUDIES = ["affinity", "batching", "loss_scaling", "r3f", "rivals", "sample_efficiency", "scale"]


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return load_zoo()


@pytest.fixture(scope="module")
def quick() -> Setting:
    return read_setting("quick")


def pool_of(zoo: Zoo, setting: Setting) -> list[TaskSpec]:
    return [zoo.task(name) for name in zoo.mixture(setting.pool).tasks]


def write_design(folder: Path, **changes: object) -> Path:
    raw: dict[str, object] = {
        "study_version": 1,
        "name": "own",
        "question": "Does it help?",
        "paper": "Nobody knows.",
        "baseline": "original",
        "arms": {"original": {"tasks": "none", "description": "The encoder as it is."}},
    }
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(raw | changes, sort_keys=False))
    return path


def test_the_studies_of_the_paper_are_shipped() -> None:
    assert study_names() == STUDIES


@pytest.mark.parametrize("name", STUDIES)
def test_a_shipped_study_makes_runs_and_plans_that_can_be_read(
    name: str, zoo: Zoo, quick: Setting, tmp_path: Path
) -> None:
    design = read_design(name)
    [encoder] = quick.encoders
    arms = arms_of(design, pool_of(zoo, quick), encoder)
    starts = made(tmp_path, quick, encoder, arms, zoo)
    own = load_zoo([tmp_path / "specs"]) if (tmp_path / "specs").is_dir() else zoo
    for arm, start in starts:
        assert (start.run is None) == (not arm.tasks)
        if start.run is not None:
            run = read_run(start.run)
            assert set(own.mixture(run.mixture or "").tasks) == set(arm.tasks)
            assert own.mixture(run.mixture or "").rates == zoo.mixture(quick.pool).rates
            start.folder.mkdir(parents=True)  # type: ignore[union-attr]
    for plan in target_plans(tmp_path, quick, encoder, starts, ["qs_reviews"], [8, "all"], zoo):
        assert {arm.name for arm in read_plan(plan.plan, zoo).arms} == set(plan.arms)
        assert plan.num_cells == len(plan.arms) * 2 * len(quick.seeds)


def made(
    out: Path, setting: Setting, encoder: Encoder, arms: list[StudyArm], zoo: Zoo
) -> list[tuple[StudyArm, Prefinetuning]]:
    pool = zoo.mixture(setting.pool)
    return [(arm, prefinetuning(out, setting, encoder, pool, arm)) for arm in arms]


@given(sizes=st.sets(st.integers(1, 16), min_size=1), orders=st.integers(1, 3))
def test_of_one_order_smaller_subsets_are_in_larger_ones(sizes: set[int], orders: int) -> None:
    setting, zoo = read_setting("quick"), load_zoo()
    pool = pool_of(zoo, setting)
    base = read_design("scale")
    design = Design(**{**vars(base), "sizes": tuple(sorted(sizes)), "orders": orders})
    encoder = Encoder(**{**vars(setting.encoders[0]), "sizes": None, "orders": None})
    found = {arm.name: arm.tasks for arm in arms_of(design, pool, encoder)}
    below = sorted(size for size in sizes if size < len(pool))
    for order in range(orders):
        nested = [set(found[f"tasks_{size:02d}_order{order}"]) for size in below]
        assert [len(tasks) for tasks in nested] == below
        assert all(small < large for small, large in pairwise(nested))
    assert set(found["all"]) == {spec.name for spec in pool}


def test_an_arm_for_each_family_has_all_other_tasks(zoo: Zoo, quick: Setting) -> None:
    pool = pool_of(zoo, quick)
    arms = {a.name: set(a.tasks) for a in arms_of(read_design("affinity"), pool, quick.encoders[0])}
    for family in {spec.family for spec in pool}:
        assert arms[f"without_{family}"] == {s.name for s in pool if s.family != family}


def test_what_arms_have_in_common_has_one_id(zoo: Zoo, quick: Setting, tmp_path: Path) -> None:
    [encoder] = quick.encoders
    found: dict[str, set[str]] = {}
    for name in STUDIES:
        for arm, start in made(
            tmp_path, quick, encoder, arms_of(read_design(name), pool_of(zoo, quick), encoder), zoo
        ):
            found.setdefault(arm.name, set()).add(start.id)
    alike = {"all", "mixed", "log_outcomes", "plain"}
    assert len(set.union(*(found[name] for name in alike))) == 1
    others = ("unscaled", "heterogeneous", "r3f", "r4f", "no_noise", "tasks_02_order0", "original")
    ids = [next(iter(found[name])) for name in ("all", *others)]
    assert len(set(ids)) == len(ids)


def test_a_larger_budget_multiplies_the_steps(zoo: Zoo, quick: Setting, tmp_path: Path) -> None:
    [encoder] = quick.encoders
    arms = arms_of(read_design("rivals"), pool_of(zoo, quick), encoder)
    starts = made(tmp_path, quick, encoder, arms, zoo)
    plans = target_plans(tmp_path, quick, encoder, starts[:2], ["qs_reviews"], ["all"], zoo)
    steps = [yaml.safe_load(plan.plan.read_text())["run"]["schedule"]["steps"] for plan in plans]
    assert steps == [60, 180]


def test_faults_are_told_where_they_are(zoo: Zoo, quick: Setting, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as unknown:
        read_design(str(write_design(tmp_path, armz={})))
    assert "own.yaml" in str(unknown.value)
    assert "did you mean 'arms'?" in str(unknown.value)
    pool = pool_of(zoo, quick)
    strange = write_design(tmp_path, baseline="orignal")
    with pytest.raises(UnknownNameError, match=r"'orignal'.*did you mean 'original'"):
        arms_of(read_design(str(strange)), pool, quick.encoders[0])
    arm = {"tasks": ["qs_topics"], "description": "One task."}
    with pytest.raises(UnknownNameError, match="did you mean 'qs_topic'"):
        arms_of(
            read_design(str(write_design(tmp_path, arms={"original": arm}))),
            pool,
            quick.encoders[0],
        )
    arm = {"tasks": {"first_of": ["mnli", "snli"]}, "description": "One task."}
    with pytest.raises(UsageError, match="the pool has none of mnli, snli"):
        arms_of(
            read_design(str(write_design(tmp_path, arms={"original": arm}))),
            pool,
            quick.encoders[0],
        )


def test_a_setting_of_a_run_that_there_is_not_is_a_finding(
    zoo: Zoo, quick: Setting, tmp_path: Path
) -> None:
    arm = {"tasks": "all", "description": "All.", "prefinetune": {"batching.schema": "mixed"}}
    design = read_design(str(write_design(tmp_path, arms={"original": arm})))
    arms = arms_of(design, pool_of(zoo, quick), quick.encoders[0])
    with pytest.raises(SpecError, match=r"batching\.schema.*did you mean 'scheme'"):
        made(tmp_path, quick, quick.encoders[0], arms, zoo)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scale"], "--quick, or --setting"),
        (["scale", "--quick", "--setting", "quick"], "--quick, or --setting"),
        (["scales", "--quick"], "did you mean 'scale'?"),
        (["scale", "--setting", "quik"], "did you mean 'quick'?"),
        (["scale", "--setting", "nowhere.yaml"], "no such setting file: nowhere.yaml"),
        (["scale", "--quick", "--encoder", "small"], "no encoder 'small'; it has tiny"),
    ],
)
def test_wrong_requests(arguments: list[str], said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["study", *arguments, "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, UsageError)
    assert said in str(result.exception)


def test_the_shipped_files_are_in_the_wheel() -> None:
    assert (shipped_studies() / "settings" / "quick.yaml").is_file()
