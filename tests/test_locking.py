"""`muppet-zoo lock` against a hub here: what is recorded, kept, renewed, and what fails alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_client import (
    OTHER,
    ROWS,
    Client,
    expect_built,
    expect_error,
    hub_client,
    published,
)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with hub_client(tmp_path) as client:
        yield client


def test_the_lock_records_commit_sizes_and_digests(client: Client) -> None:
    commit = client.dataset.push(published())
    client.spec()
    client.spec("toy_again", splits={"train": "validation"})
    done = client.run("lock", "toy")
    assert done.returncode == 0
    (entry,) = client.lock_data()
    assert (entry["config"], entry["revision"], entry["commit"]) == ("plain", "main", commit)
    assert entry["splits"].keys() == {"train", "validation"}
    data = client.dataset.commits[commit]["plain/train-00000.parquet"]
    digest = hashlib.sha256(data).hexdigest()
    assert entry["splits"]["train"] == [
        {"path": "plain/train-00000.parquet", "size": len(data), "sha256": digest}
    ]
    assert not any(request.startswith("GET /lfs") for request in client.hub.requests)


def test_files_in_git_itself_are_known_by_their_blob(client: Client) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS["train"]).encode()
    commit = client.dataset.push({"train.jsonl": lines})
    client.spec(config=None, splits={"train": "train"})
    assert client.run("lock").returncode == 0
    (file,) = client.lock_data()[0]["splits"]["train"]
    assert file.keys() == {"path", "size", "git_blob"}
    expect_built(client.build())
    assert client.built() == {"train": client.expected(ROWS)["train"]}
    client.dataset.commits[commit]["train.jsonl"] = lines.replace(b"cat", b"dog")
    done = client.build(HF_HOME=str(client.folder / "cold"))
    expect_built(done)  # nothing to do: the commit and the spec are the same
    (client.folder / "out").rename(client.folder / "out_before")
    expect_error(client.build(HF_HOME=str(client.folder / "cold")), "git_blob", "--update toy")


def test_an_entry_stays_until_it_is_updated(client: Client) -> None:
    first = client.dataset.push(published())
    client.spec()
    assert client.run("lock").returncode == 0
    before = (client.folder / "specs/zoo.lock").read_bytes()
    second = client.dataset.push(published(OTHER))
    client.hub.requests.clear()
    assert "1 kept" in client.run("lock").stdout
    assert client.hub.requests == []
    assert (client.folder / "specs/zoo.lock").read_bytes() == before
    done = client.run("lock", "--update", "--json")
    (entry,) = json.loads(done.stdout)["entries"]
    assert entry["status"] == "renewed"
    assert entry["changes"][0] == f"commit {first[:10]} -> {second[:10]}"
    assert entry["changes"][1].startswith("plain/train-00000.parquet changed, ")
    assert client.lock_data()[0]["commit"] == second
    assert "1 unchanged" in client.run("lock", "--update").stdout


def test_a_split_that_an_entry_lacks_is_added_at_its_commit(client: Client) -> None:
    first = client.dataset.push(published())
    client.spec(splits={"train": "train"})
    assert client.run("lock").returncode == 0
    client.dataset.push(published(OTHER))
    client.spec()
    expect_error(client.build(), "the lock has no files for this split; run `muppet-zoo lock toy`")
    assert "1 completed" in client.run("lock").stdout
    assert client.lock_data()[0]["commit"] == first
    expect_built(client.build())
    assert client.built() == client.expected(ROWS)


def test_failures_do_not_cost_the_other_entries(client: Client) -> None:
    client.dataset.push(published())
    client.hub.dataset("nobody/gated").push(published())
    client.hub.dataset("nobody/gated").gated = 403
    client.spec("gated", hub="nobody/gated")
    client.spec("absent", hub="nobody/absent")
    client.spec("there")
    done = client.run("lock")
    expect_error(done, "nobody/absent", "no such dataset", "nobody/gated", "request access")
    assert "2 failed, 1 added" in done.stdout
    assert [entry["hub"] for entry in client.lock_data()] == ["nobody/nothing"]


def test_entries_that_nothing_reads_go_with_an_update(client: Client) -> None:
    commit = client.dataset.push(published())
    client.spec()
    assert client.run("lock").returncode == 0
    client.dataset.push(published(OTHER))
    second = client.dataset.refs["main"]
    client.spec(revision=second)
    expect_error(
        client.build(),
        f"task toy: the spec pins nobody/nothing to commit {second}, but",
        f"zoo.lock has {commit} (for revision 'main'); if the spec is right, run "
        f"`muppet-zoo lock toy`",
    )
    done = client.run("lock", "--update", "toy")
    assert done.returncode == 0
    assert "1 added, 1 removed" in done.stdout
    assert [entry["revision"] for entry in client.lock_data()] == [second]
    expect_built(client.build())


def test_a_lock_of_ones_own(client: Client) -> None:
    client.dataset.push(published())
    client.spec()
    own = str(client.folder / "own.lock")
    assert client.run("lock", "--lock", own).returncode == 0
    assert not (client.folder / "specs/zoo.lock").exists()
    client.dataset.push(published(OTHER))
    expect_built(client.build("toy", "--lock", own))
    assert client.built() == client.expected(ROWS)
