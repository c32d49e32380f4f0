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
from muppet_zoo.study.files import Prefinetuning, TargetRows, prefinetuning, target_plans
from muppet_zoo.zoo import Zoo, load_zoo, validate_paths

REVIEWS = {"qs_reviews": TargetRows(num_examples=120, fingerprints=("train", "validation"))}
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
            start.folder.mkdir(parents=True, exist_ok=True)  # type: ignore[union-attr]
    for plan in target_plans(tmp_path, quick, encoder, starts, REVIEWS, [8, 5000, "all"], zoo):
        assert {arm.name for arm in read_plan(plan.plan, zoo).arms} == set(plan.arms)
        assert plan.num_cells == len(plan.arms) * 2 * len(quick.seeds)  # 5,000 are too many


def test_scores_on_other_rows_have_another_folder(zoo: Zoo, quick: Setting, tmp_path: Path) -> None:
    [encoder] = quick.encoders
    arms = arms_of(read_design("rivals"), pool_of(zoo, quick), encoder)
    starts = made(tmp_path, quick, encoder, arms, zoo)
    folders = [
        target_plans(tmp_path, quick, encoder, starts, {"qs_reviews": rows}, [8], zoo)[0].folder
        for rows in (
            REVIEWS["qs_reviews"],
            TargetRows(num_examples=120, fingerprints=("train", "others")),
            TargetRows(num_examples=120, fingerprints=("others", "validation")),
        )
    ]
    assert len(set(folders)) == 3


def made(
    out: Path, setting: Setting, encoder: Encoder, arms: list[StudyArm], zoo: Zoo
) -> list[tuple[StudyArm, Prefinetuning]]:
    pool = zoo.mixture(setting.pool)
    return [
        (arm, prefinetuning(out, setting, encoder, pool, arm, "w", dict.fromkeys(pool.tasks, "r")))
        for arm in arms
    ]


def test_other_weights_or_rows_are_another_pre_finetuning(
    zoo: Zoo, quick: Setting, tmp_path: Path
) -> None:
    [encoder] = quick.encoders
    arms = {arm.name: arm for arm in arms_of(read_design("scale"), pool_of(zoo, quick), encoder)}
    pool = zoo.mixture(quick.pool)
    rows = dict.fromkeys(pool.tasks, "r")
    changed = rows | {pool.tasks[0]: "other"}

    def number(name: str) -> int:
        made_of = (("w", rows), ("other", rows), ("w", changed))
        arm = arms[name]
        return len({prefinetuning(tmp_path, quick, encoder, pool, arm, *m).id for m in made_of})

    assert number("all") == 3
    assert number("original") == 2  # it is trained on no rows


@given(sizes=st.sets(st.integers(1, 16), min_size=1), orders=st.integers(1, 3))
def test_of_one_order_smaller_subsets_are_in_larger_ones(
    zoo: Zoo, quick: Setting, sizes: set[int], orders: int
) -> None:
    pool = pool_of(zoo, quick)
    base = read_design("scale")
    design = Design(**{**vars(base), "sizes": tuple(sorted(sizes)), "orders": orders})
    encoder = Encoder(**{**vars(quick.encoders[0]), "sizes": None, "orders": None})
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
    alike = {"all", "log_outcomes"}
    assert len(set.union(*(found[name] for name in alike))) == 1
    others = (
        "unscaled",
        "mixed",
        "heterogeneous",
        "plain",
        "r3f",
        "r4f",
        "no_noise",
        "tasks_02_order0",
        "original",
    )
    ids = [next(iter(found[name])) for name in ("all", *others)]
    assert len(set(ids)) == len(ids)


def test_a_step_that_is_cut_keeps_its_size(zoo: Zoo, quick: Setting, tmp_path: Path) -> None:
    design = read_design("batching")
    arms = arms_of(design, pool_of(zoo, quick), quick.encoders[0])
    batching = quick.prefinetune["batching"]
    whole = batching["tokens_per_micro_batch"] * batching["micro_batches_per_step"]
    for arm, start in made(tmp_path, quick, quick.encoders[0], arms, zoo):
        assert (start.run is None) == (arm.name == "original")
        if start.run is not None:
            cut = read_run(start.run).batching
            assert cut.micro_batches_per_step == design.micro_batches_per_step == 8
            assert cut.tokens_per_micro_batch * 8 == whole
    too_fine = [StudyArm(**{**vars(arms[1]), "micro_batches_per_step": whole})]
    with pytest.raises(SpecError, match=r"tokens_per_micro_batch.*8"):
        made(tmp_path, quick, quick.encoders[0], too_fine, zoo)


def test_a_larger_budget_multiplies_the_steps(zoo: Zoo, quick: Setting, tmp_path: Path) -> None:
    [encoder] = quick.encoders
    arms = arms_of(read_design("rivals"), pool_of(zoo, quick), encoder)
    starts = made(tmp_path, quick, encoder, arms, zoo)
    plans = target_plans(tmp_path, quick, encoder, starts[:2], REVIEWS, ["all"], zoo)
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


SETTING = """\
setting_version: 1
name: own
pool: quickstart
targets: [qs_reviews]
encoders:
  tiny: {encoder: tiny_encoder}
seeds: [0]
prefinetune:
  schedule: {steps: 2}
finetune:
  run:
    schedule: {steps: 2}
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  run:\n    schedule: {steps: 2}", "  run: {}", "11:8: finetune.run.schedule: the key"),
        ("    schedule: {steps: 2}", "    schedule: 2", "12:15: finetune.run.schedule: found 2"),
        ("  schedule: {steps: 2}\nfi", "  model: [1]\nfi", "9:10: prefinetune.model: "),
        ("  schedule: {steps: 2}\nfi", "  epochs: 2\nfi", "9:3: prefinetune.epochs: unknown key"),
        ("prefinetune:\n", "prefinetune:\n  mixture: glue\n", "9:3: prefinetune.mixture: "),
        ("  run:\n", "  run:\n    data: here\n", "12:5: finetune.run.data: 'data' is not for"),
        ("  run:\n", "  grid: {seed: [1]}\n  run:\n", "11:10: finetune.grid.seed: 'seed' is not"),
        ("encoder: tiny_encoder", "encoder: t, finetune: {precison: bf16}",
         "6:33: encoders.tiny.finetune.precison: a run has no 'precison'; did you mean"),
        ("encoder: tiny_encoder", "encoder: t, finetune: {optimizer.learning_rate: -1}",
         "6:58: encoders.tiny.finetune.optimizer.learning_rate: found -1"),
    ],
)  # fmt: skip
def test_faults_of_a_setting_stand_at_their_lines(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(SETTING)
    read_setting(str(path))
    assert SETTING.count(old) == 1
    path.write_text(SETTING.replace(old, new))
    with pytest.raises(SpecError) as found:
        read_setting(str(path))
    assert f"own.yaml:{said}" in str(found.value)
    assert validate_paths([path])[1] == list(found.value.findings)


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ({"prefinetune": {"batching.schema": "mixed"}},
         "prefinetune.batching.schema: batching has no 'schema'; did you mean 'scheme'"),
        ({"prefinetune": {"r3f": 3}}, "arms.original.prefinetune.r3f: found 3"),
        ({"prefinetune": {"optimizer": {}}}, "optimizer is a group; name a key in it"),
        ({"finetune": {"data": "here"}}, "'data' is not for a study: it is built for each encoder"),
        ({"tasks": "none", "prefinetune": {"precision": "bf16"}}, "this changes nothing"),
    ],
)  # fmt: skip
def test_faults_of_an_arm_stand_at_their_keys(
    arm: dict[str, object], said: str, tmp_path: Path
) -> None:
    whole = {"tasks": "all", "description": "All."} | arm
    path = write_design(tmp_path, arms={"original": whole})
    with pytest.raises(SpecError) as found:
        read_design(str(path))
    assert said in str(found.value)
    assert all(finding.line > 6 for finding in found.value.findings)
    assert validate_paths([path])[1] == list(found.value.findings)


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
