"""Finding specs and mixtures: shipped ones, installed packs, folders named by the user."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from helpers import write_spec

from muppet_zoo import zoo as zoo_module
from muppet_zoo.errors import SourceError, SpecError, UnknownNameError, UsageError
from muppet_zoo.heads import HEADS
from muppet_zoo.zoo import find_files, load_zoo, shipped_specs, validate_paths

MIXTURE = "mixture_version: 1\nname: {}\ndescription: An invented one.\ntasks: [{}]\n"


def write_mixture(folder: Path, name: str, tasks: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(MIXTURE.format(name, tasks))


def messages(error: pytest.ExceptionInfo[SpecError]) -> list[str]:
    return [finding.message for finding in error.value.findings]


def test_the_shipped_zoo_has_every_kind_of_head() -> None:
    zoo = load_zoo()
    assert {spec.head.type for spec in zoo.tasks.values()} == set(HEADS)
    assert zoo.task("sst2").path.parent.name == "classification"
    assert set(zoo.mixture("real_mini").tasks) <= set(zoo.tasks)


def test_an_unknown_name_comes_with_near_ones() -> None:
    zoo = load_zoo()
    with pytest.raises(UnknownNameError, match=r"^no task is named 'SST-2'; did you mean 'sst2'"):
        zoo.task("SST-2")
    with pytest.raises(UnknownNameError, match=r"no mixture is named 'real'; did you mean|known"):
        zoo.mixture("real")


def test_a_folder_of_the_users_joins_the_zoo(tmp_path: Path) -> None:
    write_spec(tmp_path, "mine")
    write_mixture(tmp_path / "mixtures", "some", "mine, sst2")
    zoo = load_zoo([tmp_path])
    assert zoo.task("mine").path == tmp_path / "mine.yaml"
    assert zoo.mixture("some").tasks == ("mine", "sst2")
    assert "sst2" in zoo.tasks


def test_the_shipped_folder_may_be_named_again() -> None:
    assert load_zoo([shipped_specs()]) == load_zoo()


def test_names_are_unique(tmp_path: Path) -> None:
    write_spec(tmp_path, "sst2")
    with pytest.raises(SpecError) as caught:
        load_zoo([tmp_path])
    path = shipped_specs() / "classification" / "sst2.yaml"
    assert messages(caught) == [f"a task 'sst2' already exists in {path}; names are unique"]


def test_a_mixture_and_a_task_may_have_one_name(tmp_path: Path) -> None:
    write_spec(tmp_path, "mine")
    write_mixture(tmp_path / "mixtures", "mine", "mine")
    assert load_zoo([tmp_path]).mixture("mine").tasks == ("mine",)


@pytest.mark.parametrize(
    ("second", "differs"),
    [
        ("{type: classification, target: label, labels: [a, b], shared_head: h}", False),
        ("{type: classification, target: label, labels: [b, a], shared_head: h}", True),
        ("{type: classification, target: label, labels: [a, b, c], shared_head: h}", True),
        ("{type: regression, target: score, range: [0, 1], shared_head: h}", True),
    ],
)
def test_tasks_that_share_a_head_have_equal_ones(
    second: str, differs: bool, tmp_path: Path
) -> None:
    columns = "{first: string, second: string, label: label, score: number}"
    first = "{type: classification, target: label, labels: [a, b], shared_head: h}"
    write_spec(tmp_path, "one", columns=columns, head=first)
    metrics = "[pearson]" if "regression" in second else "[accuracy]"
    write_spec(tmp_path, "two", columns=columns, head=second, metrics=metrics)
    _, findings = validate_paths([tmp_path])
    assert [(f.path.name, f.field) for f in findings] == (
        [("two.yaml", "head.shared_head")] if differs else []
    )


def test_ranges_of_a_shared_scale_are_equal(tmp_path: Path) -> None:
    columns = "{first: string, second: string, score: number}"
    for name, top in (("one", 5), ("two", 1)):
        head = f"{{type: regression, target: score, range: [0, {top}], shared_head: h}}"
        write_spec(tmp_path, name, columns=columns, head=head, metrics="[pearson]")
    _, findings = validate_paths([tmp_path])
    assert [f.field for f in findings] == ["head.shared_head"]


def test_find_files_takes_files_and_folders_once_and_in_order(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "deep/er/c.yaml", ".hidden/d.yaml", "e.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a: 1")
    (tmp_path / "alias.yaml").symlink_to("b.yaml")
    found = find_files([tmp_path / "e.txt", tmp_path, tmp_path / "deep"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "e.txt",
        "a.yml",
        "alias.yaml",  # the same file as b.yaml
        "deep/er/c.yaml",
    ]
    with pytest.raises(UsageError, match="no such file or folder: "):
        find_files([tmp_path / "nothing"])


def test_a_folder_that_cannot_be_looked_into_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    real = os.scandir

    def scandir(path: str) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UsageError, match="closed: cannot be looked into: Permission denied"):
        find_files([tmp_path])


def test_a_run_is_checked_and_joins_no_zoo(tmp_path: Path) -> None:
    write_spec(tmp_path, "one")
    run = tmp_path / "run.yaml"
    text = "run_version: 1\ndata: data\ntask: one\nmodel: {encoder: enc}\nschedule: {steps: 1}\n"
    run.write_text(text)
    assert validate_paths([tmp_path]) == (2, [])
    for _ in range(2):  # read, then remembered
        assert "one" in load_zoo([tmp_path]).tasks
    run.write_text(text + "sede: 1\n")
    _, findings = validate_paths([run])
    assert [f.message for f in findings] == [
        "unknown key 'sede'; did you mean 'seed' or 'schedule'?"
    ]


def test_nothing_to_validate_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^no \.yaml file in "):
        validate_paths([tmp_path])


class Pack:
    """An installed task pack: its entry point names a folder, or fails."""

    value = "pack:FOLDER"

    def __init__(self, folder: Any, name: str = "acme") -> None:
        self.name = name
        self._folder = folder

    def load(self) -> Any:
        if isinstance(self._folder, Exception):
            raise self._folder
        return self._folder


def install(monkeypatch: pytest.MonkeyPatch, *packs: Pack) -> None:
    def entry_points(group: str) -> list[Pack]:
        assert group == "muppet_zoo.task_packs"
        return list(packs)

    monkeypatch.setattr(zoo_module.metadata, "entry_points", entry_points)


@pytest.mark.parametrize("kind", [str, Path])
def test_installed_packs_join_the_zoo_under_their_name(
    kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_spec(tmp_path, "packed")
    write_spec(tmp_path, "sst2")  # no clash: the zoo's is another one
    write_mixture(tmp_path / "mixtures", "both", "packed, sst2, cola")
    install(monkeypatch, Pack(kind(tmp_path)))
    for _ in range(2):  # read, then remembered
        zoo = load_zoo()
        assert zoo.task("acme.packed").path == tmp_path / "packed.yaml"
        assert zoo.task("acme.sst2").description != zoo.task("sst2").description
        assert "packed" not in zoo.tasks
        assert zoo.mixture("acme.both").tasks == ("acme.packed", "acme.sst2", "cola")
    with pytest.raises(UnknownNameError, match=r"did you mean 'acme\.packed'"):
        zoo.task("packed")
    # Its own files can be checked where they lie, also while the pack is installed.
    assert validate_paths([tmp_path]) == (3, [])


def test_a_pack_that_is_renamed_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_spec(tmp_path, "packed")
    for name in ("acme", "other"):
        install(monkeypatch, Pack(tmp_path, name))
        assert f"{name}.packed" in load_zoo().tasks


def test_two_packs_of_one_name_clash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    install(monkeypatch, Pack(tmp_path / "a"), Pack(tmp_path / "b"))
    with pytest.raises(
        SourceError, match=r"two installed task packs are named 'acme': .*uninstall"
    ):
        load_zoo()


def test_a_name_clash_within_a_pack_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_spec(tmp_path / folder, "packed")
    install(monkeypatch, Pack(tmp_path))
    with pytest.raises(SpecError) as caught:
        load_zoo()
    assert [m.partition(" in ")[0] for m in messages(caught)] == [
        "a task 'acme.packed' already exists"
    ]


def test_a_broken_pack_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Pack(ImportError("no module named pack")))
    with pytest.raises(
        SourceError,
        match=r"^the task pack 'acme' \(pack:FOLDER\) cannot be loaded: no module named pack$",
    ):
        load_zoo()
    install(monkeypatch, Pack(tmp_path / "nothing"))
    with pytest.raises(SourceError, match=r"'acme' \(pack:FOLDER\) names no folder: "):
        load_zoo()
    install(monkeypatch, Pack(tmp_path, "Acme-tasks"))
    with pytest.raises(
        SourceError, match=r"'Acme-tasks' .* needs a name of up to 64 small letters"
    ):
        load_zoo()
