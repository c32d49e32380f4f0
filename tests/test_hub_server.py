"""The real clients of the hub against a server here: what is read, refused, waited for and told."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_client import (
    COMMIT,
    OTHER,
    ROWS,
    Client,
    converted,
    expect_built,
    expect_error,
    hub_client,
    parquet,
    published,
)

from muppet_zoo.spec import CONVERSION

BOTH_WAYS = [CONVERSION, pytest.param("main", marks=pytest.mark.slow)]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with hub_client(tmp_path) as client:
        yield client


# --- what is read ----------------------------------------------------------------------------


@pytest.mark.parametrize("locked", [False, True])
def test_both_splits_of_the_chosen_configuration_are_built(client: Client, locked: bool) -> None:
    client.dataset.push(published())
    client.spec()
    client.spec("toy_other", config="other")
    if locked:
        assert client.run("lock").returncode == 0
    expect_built(client.build("toy", "toy_other"))
    assert client.built("toy") == client.expected(ROWS)
    assert client.built("toy_other") == client.expected(OTHER)


@pytest.mark.parametrize("locked", [False, True])
def test_the_parquet_conversion_is_read_by_its_folders(client: Client, locked: bool) -> None:
    client.dataset.push({"nothing.py": b"raise SystemExit\n"})
    client.dataset.push(converted(), CONVERSION)
    client.spec(revision=CONVERSION)
    if locked:
        assert client.run("lock").returncode == 0
    expect_built(client.build())
    assert client.built() == client.expected(ROWS)


def test_a_branch_that_moved_is_read_where_the_lock_says(client: Client) -> None:
    first = client.dataset.push(published())
    client.spec()
    assert client.run("lock").returncode == 0
    client.dataset.push(published(OTHER))
    expect_built(client.build())
    manifest = json.loads((client.folder / "out/toy/train/manifest.json").read_text())
    assert manifest["components"]["source"] == f"hub:nobody/nothing:plain:train:{first}"
    assert client.built() == client.expected(ROWS)


def test_without_an_entry_the_branch_is_read_as_it_is(client: Client) -> None:
    client.dataset.push(published())
    second = client.dataset.push(published(OTHER))
    client.spec()
    expect_built(client.build())
    manifest = json.loads((client.folder / "out/toy/train/manifest.json").read_text())
    assert manifest["components"]["source"].endswith(f":train:{second}")
    assert client.built() == client.expected(OTHER)


# --- what is not there -----------------------------------------------------------------------


def test_a_dataset_that_is_not_there(client: Client) -> None:
    client.spec(hub="nobody/nowhere")
    expect_error(
        client.build(),
        "hub dataset nobody/nowhere (plain): cannot ask for the commit of revision 'main': "
        "no such dataset, or a private one; look it up at",
        "correct `hub` in the spec",
    )


def test_a_revision_that_is_not_there(client: Client) -> None:
    client.dataset.push(published())
    client.dataset.push(published(), "development")
    client.spec(revision="developmnt")
    expect_error(client.build(), "no such revision", "did you mean 'development'?")
    client.spec(revision=CONVERSION)
    expect_error(client.build(), "no such revision; allowed: main, development")
    client.spec(revision=COMMIT)
    expect_error(client.build(), f"cannot open it at commit {COMMIT}: no such revision")


def test_a_configuration_or_split_that_is_not_there(client: Client) -> None:
    client.dataset.push(published())
    client.dataset.push(converted(), CONVERSION)
    client.spec("no_config", revision=CONVERSION, config="plane")
    client.spec("no_split", revision=CONVERSION, splits={"train": "training"})
    client.spec("no_config_published", config="plane")
    client.spec("no_split_published", splits={"train": "training"})
    expect_error(
        client.build("no_config", "no_split", "no_config_published", "no_split_published"),
        "its Parquet conversion has no configuration 'plane'; allowed: .gitattributes, plain",
        "has no split 'training'; allowed: train, validation; did you mean 'train'?",
        "BuilderConfig 'plane' not found. Available: ['plain', 'other']",
        "split 'training': there is no such split; allowed: train, validation",
    )


def test_a_dataset_without_the_specs_columns(client: Client) -> None:
    client.dataset.push(published({"train": [{"a": 1}], "validation": [{"a": 2}]}))
    client.spec()
    expect_error(client.build(), "none of the spec's columns (text, label); it has: a")


def test_a_loading_script_is_never_run(client: Client) -> None:
    client.dataset.push({"README.md": b"# Nothing", "nothing.py": b"open('ran', 'w')\n"})
    client.spec()
    expect_error(client.build(), "is code and is never run", "`revision: refs/convert/parquet`")
    expect_error(client.run("lock"), "is code and is never run")
    assert not list(client.folder.rglob("ran"))


# --- what is not allowed ---------------------------------------------------------------------


@pytest.mark.parametrize(("status", "revision"), [(401, "main"), (403, CONVERSION)])
def test_a_gated_dataset_says_what_to_do(client: Client, status: int, revision: str) -> None:
    client.dataset.push(published())
    client.dataset.push(converted(), CONVERSION)
    client.dataset.gated = status
    client.spec(revision=revision)
    done = client.build(HF_TOKEN="hf_no_access")
    page = f"{client.hub.url}/datasets/nobody/nothing"
    expect_error(done, f"gated; request access on its page, {page}", "`hf auth login`", "HF_TOKEN")
    assert "hf_no_access" not in done.stdout + done.stderr
    expect_built(client.build(HF_TOKEN="hf_has_access"))


def test_an_invalid_token_is_not_shown(client: Client) -> None:
    client.dataset.push(published())
    message = {"X-Error-Message": "Invalid credentials in Authorization header"}
    client.hub.refusals += [("/api/datasets", 401, message)] * 2
    client.spec()
    done = client.build(HF_TOKEN="hf_wrong")
    expect_error(done, "access was refused; log in anew with `hf auth login`")
    assert "hf_wrong" not in done.stdout + done.stderr


# --- what has to be waited for ---------------------------------------------------------------


@pytest.mark.parametrize("path", ["/revision/main", "train-00000.parquet"])
def test_a_short_wait_is_waited(client: Client, path: str) -> None:
    client.dataset.push(published())
    client.hub.refusals.append((path, 429, {"Retry-After": "1"}))
    client.spec()
    expect_built(client.build())
    assert client.hub.refusals == []
    assert client.built() == client.expected(ROWS)


def test_a_long_wait_is_told(client: Client) -> None:
    client.dataset.push(published())
    client.hub.refusals += [("/revision/main", 429, {"Retry-After": "277"})] * 2
    client.spec()
    expect_error(client.build(), "too many requests; try again in 277 s; with `hf auth login`")


# --- what is not what it should be -----------------------------------------------------------


def test_a_download_that_breaks_off_is_taken_up_again(client: Client) -> None:
    client.dataset.push(published())
    client.hub.cut["plain/train-00000.parquet"] = "once"
    client.spec()
    expect_built(client.build())
    assert client.hub.cut == {}
    assert client.built() == client.expected(ROWS)


@pytest.mark.parametrize("revision", BOTH_WAYS)
def test_nothing_is_built_from_a_part_of_a_file(client: Client, revision: str) -> None:
    client.dataset.push(published())
    client.dataset.push(converted(), CONVERSION)
    client.hub.cut |= {"plain/train-00000.parquet": "always", "plain/train/0001.parquet": "always"}
    client.spec(revision=revision)
    expect_error(client.build(), "Consistency check failed: file should be of size", "try again")
    assert "train" not in client.built()
    client.hub.cut.clear()
    expect_built(client.build())
    assert client.built() == client.expected(ROWS)


@pytest.mark.parametrize("revision", BOTH_WAYS)
def test_a_changed_file_under_the_same_revision_is_refused(client: Client, revision: str) -> None:
    client.dataset.push(published())
    client.dataset.push(converted(), CONVERSION)
    client.spec(revision=revision)
    assert client.run("lock").returncode == 0
    files = client.dataset.commits[client.dataset.refs[revision]]
    path = "plain/train/0000.parquet" if revision == CONVERSION else "plain/train-00000.parquet"
    files[path] = parquet(OTHER["train"])
    done = client.build()
    expect_error(
        done,
        f"{path} is not the file that the lock recorded at commit {client.dataset.refs[revision]}",
        "`muppet-zoo lock --update toy`",
    )
    assert "train" not in client.built()
    updated = client.run("lock", "toy", "--update")
    assert f"nobody/nothing (plain): {path} changed" in updated.stdout
    expect_built(client.build())
    assert len(client.built()["train"]) == 1


@pytest.mark.slow
def test_a_damaged_copy_of_a_file_is_refused_until_it_is_removed(client: Client) -> None:
    client.dataset.push(converted(), CONVERSION)
    client.spec(revision=CONVERSION)
    assert client.run("lock").returncode == 0
    expect_built(client.build())
    stored = next((client.folder / "hf/hub").rglob("snapshots/*/plain/train/0000.parquet"))
    damaged = stored.resolve()
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    (client.folder / "out/toy/train/manifest.json").unlink()
    for shard in (client.folder / "out/toy/train").iterdir():
        shard.unlink()
    expect_error(client.build(), f"Remove {damaged}, and it is fetched again", "is recorded")
    damaged.unlink()
    expect_built(client.build())
    assert client.built() == client.expected(ROWS)


# --- without a network -----------------------------------------------------------------------


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_no_network_is_said_at_once_with_what_else_there_is(client: Client) -> None:
    client.dataset.push(published())
    client.dataset.push(converted(), CONVERSION)
    client.spec("locked")
    client.spec("locked_conversion", revision=CONVERSION)
    assert client.run("lock").returncode == 0
    client.spec("unlocked", config="other")
    client.spec("pinned", config="other", revision=COMMIT)
    nowhere = closed_port()
    tasks = ("locked", "locked_conversion", "unlocked", "pinned")
    done = client.build(*tasks, HF_ENDPOINT=nowhere, HF_HOME=str(client.folder / "cold"))
    expect_error(done, f"the hub cannot be reached at {nowhere}", "--mirror DIR")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert all("cannot be reached" in error for error in errors)
    assert len(errors) == len(tasks)
    done = client.run("lock", "--update", HF_ENDPOINT=nowhere)
    expect_error(done, f"the hub cannot be reached at {nowhere}")
    assert done.stderr.count("error: ") == 1  # not one for every dataset


def test_offline_with_a_warm_cache_builds(client: Client) -> None:
    client.dataset.push(published())
    commit = client.dataset.push(published(OTHER))
    client.dataset.push(converted(), CONVERSION)
    client.spec("pinned", revision=commit)
    client.spec("locked", config="other")
    client.spec("conversion", revision=CONVERSION)
    assert client.run("lock", "locked", "conversion").returncode == 0
    tasks = ("pinned", "locked", "conversion")
    expect_built(client.build(*tasks))
    before = [client.built(task) for task in tasks]
    (client.folder / "out").rename(client.folder / "out_online")
    client.hub.requests.clear()
    expect_built(client.build(*tasks, HF_HUB_OFFLINE="1"))
    assert [client.built(task) for task in tasks] == before
    assert client.hub.requests == []


def test_offline_with_a_cold_cache_says_so(client: Client) -> None:
    client.dataset.push(published())
    client.dataset.push(converted(), CONVERSION)
    client.spec("conversion", revision=CONVERSION)
    assert client.run("lock").returncode == 0
    client.spec("branch")
    client.spec("pinned", revision=COMMIT)
    expect_error(
        client.build("conversion", "branch", "pinned", HF_HUB_OFFLINE="1"),
        "cannot download plain/train/0000.parquet while HF_HUB_OFFLINE is set: it is not in the",
        "which commit 'main' is cannot be asked while HF_HUB_OFFLINE is set; `muppet-zoo lock`",
        f"cannot open it at commit {COMMIT} while HF_HUB_OFFLINE is set: it is not in the cache",
        "--mirror DIR",
    )


def test_another_commit_in_the_cache_is_never_taken_instead(client: Client) -> None:
    first = client.dataset.push(published())
    second = client.dataset.push(published(OTHER))
    client.spec(revision=first)
    expect_built(client.build())
    client.spec(revision=second)
    expect_error(
        client.build(HF_HUB_OFFLINE="1"),
        f"commit {second} could not be opened while HF_HUB_OFFLINE is set, and the newest in the "
        f"cache, {first}, is another",
    )
