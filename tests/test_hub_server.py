"""The real clients of the hub against a server here: what is read, refused, waited for and told."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers import muppet_zoo
from hub_server import Dataset, Hub, hub_server
from tiny_zoo import random_rows, spec_data, write_jsonl, write_spec, write_tokenizer

from muppet_zoo.build import BuildOptions, build
from muppet_zoo.encode import open_tokenizer

ROWS = {"train": random_rows("single", 60), "validation": random_rows("single", 20, 1)}
OTHER = {"train": random_rows("single", 30, 2), "validation": random_rows("single", 10, 3)}
CONVERSION = "refs/convert/parquet"
COMMIT = "c" * 40
BOTH_WAYS = [CONVERSION, pytest.param("main", marks=pytest.mark.slow)]
CARD = """\
---
configs:
- config_name: plain
  data_files:
  - {split: train, path: plain/train-*.parquet}
  - {split: validation, path: plain/validation-*.parquet}
- config_name: other
  data_files:
  - {split: train, path: other/train-*.parquet}
  - {split: validation, path: other/validation-*.parquet}
---
"""

Splits = Mapping[str, Sequence[Mapping[str, Any]]]


def parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink)
    return sink.getvalue()


def published(plain: Splits = ROWS, other: Splits = OTHER) -> dict[str, bytes]:
    """A dataset of two configurations, as publishers lay it out."""
    files = {"README.md": CARD.encode()}
    for config, splits in {"plain": plain, "other": other}.items():
        for split, rows in splits.items():
            files[f"{config}/{split}-00000.parquet"] = parquet(rows)
    return files


def converted(splits: Splits = ROWS) -> dict[str, bytes]:
    """The hub's own conversion, its train split in two files."""
    half = len(splits["train"]) // 2
    return {
        ".gitattributes": b"*.parquet filter=lfs\n",
        "plain/train/0000.parquet": parquet(splits["train"][:half]),
        "plain/train/0001.parquet": parquet(splits["train"][half:]),
        "plain/validation/0000.parquet": parquet(splits["validation"]),
    }


@dataclass(frozen=True, kw_only=True)
class Client:
    """muppet-zoo in a process and with caches of its own, and specs of the server's data."""

    folder: Path
    hub: Hub
    dataset: Dataset

    def spec(self, name: str = "toy", **source: Any) -> None:
        """A spec of the dataset; `source` replaces parts of its source."""
        data = spec_data(name)
        data["source"] |= {"hub": "nobody/nothing", "config": "plain", "revision": "main"} | source
        data["source"] = {key: value for key, value in data["source"].items() if value is not None}
        write_spec(self.folder / "specs", data)

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        own = {
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.folder / "hf"),
            "NO_PROXY": "127.0.0.1,localhost",
            "HF_TOKEN": "",
            "HF_HUB_OFFLINE": "",
        }
        done = muppet_zoo(
            *arguments, "--specs", str(self.folder / "specs"), cwd=self.folder, env={**own, **env}
        )
        assert "Traceback" not in done.stderr
        return done

    def build(self, *tasks: str, **env: str) -> subprocess.CompletedProcess[str]:
        out, tokenizer = str(self.folder / "out"), str(self.folder / "tokenizer")
        command = ("build", *(tasks or ("toy",)), "--tokenizer", tokenizer, "--out", out)
        return self.run(*command, **env)

    def built(self, task: str = "toy") -> dict[str, list[bytes]]:
        """Role -> the bytes of its shards."""
        roles = sorted((self.folder / "out" / task).glob("*/manifest.json"))
        return {
            path.parent.name: [shard.read_bytes() for shard in sorted(path.parent.glob("*.arrow"))]
            for path in roles
        }

    def expected(self, splits: Splits) -> dict[str, list[bytes]]:
        """The shards of these rows, given as files."""
        for split, rows in splits.items():
            write_jsonl(self.folder / f"mirror/reference/{split}.jsonl", rows)
        reference = write_spec(self.folder / "other_specs", spec_data("reference"))
        tokenizer = open_tokenizer(str(self.folder / "tokenizer"))
        options = BuildOptions(mirror=self.folder / "mirror")
        report = build([reference], tokenizer=tokenizer, out=self.folder / "out", options=options)
        assert not report.errors
        return self.built("reference")

    def lock_data(self) -> list[dict[str, Any]]:
        entries = json.loads((self.folder / "specs/zoo.lock").read_text())["sources"]
        assert isinstance(entries, list)
        return entries


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    write_tokenizer(tmp_path / "tokenizer")
    with hub_server() as hub:
        yield Client(folder=tmp_path, hub=hub, dataset=hub.dataset("nobody/nothing"))


def expect_built(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr


def expect_error(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 1, (done.stdout, done.stderr)
    for part in parts:
        assert part in done.stderr


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


# --- the lock --------------------------------------------------------------------------------


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
    client.hub.dataset("nobody/gated").push(converted(), CONVERSION)
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
