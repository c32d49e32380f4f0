"""How heads share columns, and heads.json there and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_zoo import KINDS, spec_data, write_spec

from muppet_zoo.errors import CheckpointError
from muppet_zoo.file_tools import checksum_of
from muppet_zoo.model_folder import (
    LAYOUT_FILE,
    BeamSearch,
    Freeze,
    HeadLayout,
    Lora,
    ModelFolder,
    find_model,
    lay_out,
    model_of_encoder,
    write_layout,
)
from muppet_zoo.spec import TaskSpec


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[TaskSpec]]:
    """Two tasks of every kind."""
    folder = tmp_path_factory.mktemp("specs")
    return {
        kind: [write_spec(folder, spec_data(f"{kind}_{i}", kind)) for i in (1, 2)] for kind in KINDS
    }


def spans(layout: HeadLayout) -> list[tuple[str, str, int, int]]:
    return [(slot.task, slot.level, slot.start, slot.start + slot.size) for slot in layout.slots]


def test_columns_are_dealt_out_in_the_order_of_the_tasks(specs: dict[str, list[TaskSpec]]) -> None:
    layout = lay_out([spec for kind in KINDS for spec in specs[kind]])
    assert spans(layout) == [
        ("single_1", "sentence", 0, 3),
        ("single_2", "sentence", 3, 6),
        ("pair_1", "sentence", 6, 7),
        ("pair_2", "sentence", 7, 8),
        ("multi_label_1", "sentence", 8, 11),
        ("multi_label_2", "sentence", 11, 14),
        ("multiple_choice_1", "sentence", 14, 15),
        ("multiple_choice_2", "sentence", 14, 15),  # one scoring head for all
        ("tokens_1", "token", 0, 3),
        ("tokens_2", "token", 3, 6),
        ("extractive_qa_1", "token", 6, 8),
        ("extractive_qa_2", "token", 6, 8),  # one head for start and end of all
        ("text_to_text_1", "vocabulary", 0, 0),  # the output layer is the model's own
        ("text_to_text_2", "vocabulary", 0, 0),
    ]
    assert (layout.num_sentence_columns, layout.num_token_columns) == (15, 8)
    by_task = {slot.task: slot for slot in layout.slots}
    assert by_task["single_1"].labels == ("bad", "good", "fine")
    assert by_task["pair_1"].range == (0, 5)
    assert by_task["extractive_qa_1"].head == "span"
    assert by_task["text_to_text_1"].max_target_tokens == 128
    assert layout.sentence_starts == (0, 3, 6, 7, 8, 11, 14)
    assert layout.generates
    assert not lay_out(specs["single"]).generates


def test_a_head_that_knows_of_no_answer_says_so(tmp_path: Path) -> None:
    data = spec_data("open", "extractive_qa")
    data["head"] = {**data["head"], "no_answer": True}
    specs = [write_spec(tmp_path, data), write_spec(tmp_path, spec_data("b", "extractive_qa"))]
    assert [slot.no_answer for slot in lay_out(specs).slots] == [True, False]


def shared(folder: Path, name: str, kind: str, head: str | None) -> TaskSpec:
    data = spec_data(name, kind)
    if head is not None:
        data["head"] = {**data["head"], "shared_head": head}
    return write_spec(folder, data)


def test_tasks_that_name_the_same_head_share_it(tmp_path: Path) -> None:
    layout = lay_out(
        [
            shared(tmp_path, "first", "single", "polarity"),
            shared(tmp_path, "own", "single", None),
            shared(tmp_path, "second", "single", "polarity"),
            shared(tmp_path, "other", "single", "another"),
        ]
    )
    assert [(slot.start, slot.size) for slot in layout.slots] == [(0, 3), (3, 3), (0, 3), (6, 3)]
    assert layout.num_sentence_columns == 9


def test_a_head_of_one_type_is_not_shared_with_another_type(tmp_path: Path) -> None:
    """The zoo refuses such specs; the layout must not mix up columns whatever it is given."""
    kinds = ["extractive_qa", "tokens", "multiple_choice", "single"]
    layout = lay_out([shared(tmp_path, f"toy_{kind}", kind, "same") for kind in kinds])
    assert spans(layout) == [
        ("toy_extractive_qa", "token", 0, 2),
        ("toy_tokens", "token", 2, 5),
        ("toy_multiple_choice", "sentence", 0, 1),
        ("toy_single", "sentence", 1, 4),
    ]
    assert (layout.num_sentence_columns, layout.num_token_columns) == (4, 5)


@given(kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=12))
def test_columns_are_disjoint_and_cover_the_maps(
    specs: dict[str, list[TaskSpec]], kinds: list[str]
) -> None:
    layout = lay_out([specs[kind][i % 2] for i, kind in enumerate(kinds)])
    for level, width in (
        ("sentence", layout.num_sentence_columns),
        ("token", layout.num_token_columns),
    ):
        heads: dict[Any, set[int]] = {}
        for i, slot in enumerate(layout.slots):
            if slot.level == level:
                owner = slot.head if slot.head in ("span", "multiple_choice") else i
                heads.setdefault(owner, set()).update(range(slot.start, slot.start + slot.size))
        columns = [column for owned in heads.values() for column in owned]
        assert sorted(columns) == list(range(width))


# --- heads.json ------------------------------------------------------------------------------


@pytest.fixture
def model(specs: dict[str, list[TaskSpec]], tmp_path: Path) -> ModelFolder:
    layout = lay_out([spec for kind in KINDS for spec in specs[kind]])
    return ModelFolder(
        path=tmp_path,
        layout=layout,
        pooling="mean",
        dropout=0.25,
        head_dense="per_task",
        beam_search=BeamSearch(num_beams=2, length_penalty=0.5),
        lora=Lora(rank=4, alpha=8.0, dropout=0.0, target_modules=("q_proj",)),
        freeze=Freeze(layers=1),
        step=7,
        seed=3,
        earlier_tasks=("first", "second"),
    )


def test_round_trip(model: ModelFolder) -> None:
    write_layout(model)
    found = find_model(model.path)
    assert found == model
    assert found.tasks == tuple(slot.task for slot in model.layout.slots)


def test_find_model_looks_in_the_folder_then_the_run_then_its_newest_checkpoint(
    model: ModelFolder, tmp_path: Path
) -> None:
    places = [
        "checkpoints/step-00000009/model",
        "checkpoints/step-00000100/model",
        "model",
        "",
    ]
    for place in places:
        folder = tmp_path / place
        folder.mkdir(parents=True, exist_ok=True)
        write_layout(ModelFolder(**{**vars(model), "path": folder}))
        assert find_model(tmp_path).path == folder
    newest = tmp_path / "checkpoints/step-00000009"
    assert find_model(newest).path == newest / "model"


def test_an_encoder_knows_the_model_it_lies_in(model: ModelFolder, tmp_path: Path) -> None:
    write_layout(model)
    assert model_of_encoder(str(tmp_path / "encoder")) == model
    assert model_of_encoder(str(tmp_path)) is None
    assert model_of_encoder(str(tmp_path / "other" / "encoder")) is None
    assert model_of_encoder("acme/encoder") is None


@pytest.mark.parametrize("folder", [".", "absent"])
def test_no_model(tmp_path: Path, folder: str) -> None:
    with pytest.raises(CheckpointError, match=r"no trained model in .*neither heads\.json nor"):
        find_model(tmp_path / folder)


def _set(key: str, value: Any) -> Any:
    return lambda data: data.__setitem__(key, value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("pooling"),
        lambda data: data.pop("layout"),
        _set("surprise", 1),
        _set("layout", []),
        _set("layout", {"slots": 3}),
        lambda data: data["layout"]["slots"][0].pop("labels"),
        lambda data: data["layout"]["slots"][0].update(range=[1]),
        lambda data: data["layout"]["slots"].append("task"),
        lambda data: data["layout"].pop("num_token_columns"),
        _set("pooling", "median"),
        _set("head_dense", "both"),
        _set("beam_search", {}),
        _set("lora", {"rank": 4}),
        lambda data: data["layout"]["slots"][-1].update(max_target_tokens=None),
        _set("step", None),
        _set("seed", "3"),
        _set("dropout", True),
        lambda data: data["layout"]["slots"][0].update(size=0),
        lambda data: data["layout"]["slots"][0].update(start=99),
        lambda data: data["layout"]["slots"][0].update(start="0"),
        lambda data: data["layout"]["slots"][0].update(labels="abc"),
        lambda data: data["layout"]["slots"][0].update(level="token"),
        lambda data: data["layout"]["slots"][0].update(head="tail"),
        lambda data: data["layout"]["slots"][0].update(head=[]),
    ],
)
def test_a_damaged_layout_is_an_error_of_the_checkpoint(model: ModelFolder, damage: Any) -> None:
    write_layout(model)
    path = model.path / LAYOUT_FILE
    data = json.loads(path.read_text())
    damage(data)
    path.write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match=r"heads\.json is damaged: "):
        find_model(model.path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xfe"])
def test_a_layout_that_is_no_json_object(model: ModelFolder, content: bytes) -> None:
    (model.path / LAYOUT_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"heads\.json is damaged: "):
        find_model(model.path)


def test_a_layout_that_cannot_be_read(model: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    write_layout(model)

    def refuse(*arguments: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(CheckpointError, match=r"heads\.json cannot be read: Permission denied"):
        find_model(model.path)


def test_a_changed_file_of_a_checkpoint_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "checkpoints" / "step-00000002" / "model"
    model.mkdir(parents=True)
    (model / "heads.safetensors").write_bytes(b"weights")
    (model / LAYOUT_FILE).write_text("{}")
    checksum = checksum_of(model / "heads.safetensors")
    record = {"files": {"model/heads.safetensors": checksum, "state/other": "0"}}
    (model.parent / "checkpoint.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"heads\.json is damaged"):
        find_model(tmp_path)  # the weights are those that were saved
    (model / "heads.safetensors").write_bytes(b"weight")
    for place in (tmp_path, model.parent, model):
        with pytest.raises(CheckpointError, match=r"heads\.safetensors is damaged or missing"):
            find_model(place)
