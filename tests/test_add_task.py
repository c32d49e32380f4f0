"""`add-task` as a process: in scripts, in a real terminal, interrupted; and what it writes."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pexpect
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import ROOT, child_env, muppet_zoo, terminal_env

from muppet_zoo.add_task.files import write_all
from muppet_zoo.errors import UsageError
from muppet_zoo.zoo import load_zoo

TEAMS = {
    "billing": ("The invoice is too high", "I was charged twice"),
    "delivery": ("The parcel did not arrive", "The driver left it in the rain"),
    "technical": ("The lamp does not switch on", "The app closes by itself"),
}
ROWS = [
    {"id": i, "subject": f"About order {100 + i} again", "body": f"{texts[i % 2]}, see {i}.",
     "team": team}
    for i, (team, texts) in enumerate([*TEAMS.items()] * 12)
]  # fmt: skip
FACTS = {
    "description": "Letters of customers, sorted by our staff.",
    "citation": "Our own letters.",
    "homepage": "https://example.org/letters",
    "languages": "en",
}
SETTINGS = [part for name, value in FACTS.items() for part in ("--set", f"{name}={value}")]


def write_table(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    """The rows in the kind of file that the name says."""
    if path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    text = io.StringIO(newline="")
    if ".jsonl" in path.name:
        text.writelines(json.dumps(row) + "\n" for row in rows)
    else:
        table = csv.DictWriter(text, list(rows[0]), delimiter="\t" if ".tsv" in path.name else ",")
        table.writeheader()
        table.writerows(rows)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# --- in scripts ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet", "jsonl.gz", "csv.gz", "tsv.gz"])
def test_a_file_becomes_a_task(tmp_path: Path, kind: str) -> None:
    write_table(tmp_path / f"letters.{kind}")
    done = muppet_zoo(
        "add-task", f"letters.{kind}", "--specs", "specs", "--yes", *SETTINGS, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("1 task: 0 errors, 0 warnings, ")  # the doctor's
    assert "$ muppet-zoo validate specs/letters.yaml\n1 file, no findings\n" in done.stdout
    spec = load_zoo([tmp_path / "specs"]).task("letters")
    assert (spec.inputs.format, spec.head.type) == ("pair", "classification")
    assert spec.raw["head"]["labels"] == ["billing", "delivery", "technical"]
    assert spec.license == "unknown"
    if kind not in ("csv.gz", "parquet"):
        return  # one text and one binary kind show that what is written can be built
    tokenizer = str(ROOT / "task_specs" / "quickstart" / "tiny_encoder")
    done = muppet_zoo(
        "build", "letters", "--specs", "specs", "--tokenizer", tokenizer, "--out", "data", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    counts = {s["split"]: s["num_examples"] for s in json.loads(done.stdout)["splits"]}
    assert sum(counts.values()) == len(ROWS)
    assert set(counts) == {"train", "validation"}


def test_several_files_are_splits_and_files_beside_the_spec_stay_where_they_are(
    tmp_path: Path,
) -> None:
    (tmp_path / "specs" / "rows").mkdir(parents=True)
    write_table(tmp_path / "specs" / "rows" / "train.csv")
    write_table(tmp_path / "elsewhere.csv", ROWS[:6])
    done = muppet_zoo(
        "add-task", "specs/rows/train.csv", "dev=elsewhere.csv", "--specs", "specs", "--yes",
        "--set", "name=letters", *SETTINGS, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    source = load_zoo([tmp_path / "specs"]).task("letters").raw["source"]
    assert source["files"] == {"train": "rows/train.csv", "dev": "data/letters/elsewhere.csv"}
    assert source["splits"] == {"train": "train", "validation": "dev"}
    assert (tmp_path / "specs/data/letters/elsewhere.csv").is_file()


def test_what_the_rows_do_not_tell_must_be_given(tmp_path: Path) -> None:
    rows = [{"text": row["body"], "label": row["id"] % 3} for row in ROWS]
    write_table(tmp_path / "letters.csv", rows)
    arguments = ("add-task", "letters.csv", "--specs", "specs", "--yes")
    done = muppet_zoo(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    for name in ("labels", *FACTS):
        assert f"--set {name}=…" in done.stderr
    assert "for 0, 1, 2" in done.stderr
    assert files_in(tmp_path) == {"letters.csv"}
    done = muppet_zoo(*arguments, *SETTINGS, "--set", "labels=no, maybe, yes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    labels = load_zoo([tmp_path / "specs"]).task("letters").raw["head"]["labels"]
    assert labels == ["no", "maybe", "yes"]


def test_as_json(tmp_path: Path) -> None:
    write_table(tmp_path / "letters.csv")
    arguments = ("add-task", "letters.csv", "--specs", "specs", "--yes", "--json", *SETTINGS)
    done = muppet_zoo(*arguments, cwd=tmp_path)
    report = json.loads(done.stdout)
    assert report["findings"] == []
    assert report["files"] == ["specs/letters.yaml", "specs/data/letters/letters.csv"]
    assert report["reasons"]["format"] == "2 text columns, of 4 and 7 words on average"


def test_rows_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    rows = [{**row, "body": "" if row["id"] in (3, 8) else row["body"]} for row in ROWS]
    write_table(tmp_path / "letters.csv", rows)
    arguments = ("add-task", "letters.csv", "--specs", "specs", "--yes", *SETTINGS)
    done = muppet_zoo(*arguments, cwd=tmp_path)
    assert done.returncode == 1, done.stderr  # the doctor says so, too
    note = "note: 2 of 36 sampled rows of train do not fit the spec, and the build will stop there;"
    assert f"{note} row 3: no text in '{{body}}'" in done.stdout


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    write_table(tmp_path / "letters.csv")
    arguments = ("add-task", "letters.csv", "--specs", "specs", "--yes", *SETTINGS)
    assert muppet_zoo(*arguments, cwd=tmp_path).returncode == 0
    spec = tmp_path / "specs" / "letters.yaml"
    spec.write_text("mine", "utf-8")
    done = muppet_zoo(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "already there: specs/letters.yaml" in done.stderr
    assert spec.read_text("utf-8") == "mine"
    assert muppet_zoo(*arguments, "--force", cwd=tmp_path).returncode == 0
    assert "name: letters" in spec.read_text("utf-8")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("full", "full is a folder; name files in it, each with its split: dev=full/dev.jsonl "
         "train=full/train.csv\n"),
        ("train=full", "full is a folder; name files in it"),
        ("bare", "bare is a folder; name a file of rows (.jsonl, .jsonl.gz, .csv,"),
    ],
)  # fmt: skip
def test_a_folder_is_no_file(tmp_path: Path, argument: str, message: str) -> None:
    for name in ("full/train.csv", "full/dev.jsonl", "full/notes.txt", "bare/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    done = muppet_zoo("add-task", argument, "--yes", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.csv", "--specs", "s", "--yes"], "no such file: nowhere.csv"),
        (["", "--yes"], "'' names no file; name one, such as train=rows.csv"),
        (["train=", "--yes"], "'train=' names no file"),
        (["letters.csv", "--specs", "s"], "run it in a terminal, or give --yes"),
        (["letters.csv", "--yes", *SETTINGS], "the zoo holds no rows; give --specs DIR"),
        (["letters.csv", "--yes", "--set", "famly=nli"], "no field is named 'famly'; did you"),
        (["letters.csv", "--yes", "--set", "family"], "write FIELD=VALUE"),
        (["letters.csv", "--yes", "--config", "a"], "are for datasets of the hub"),
        (["letters.csv", "letters.csv", "--yes"], "are both split 'letters'; name them"),
        (["empty.jsonl", "--yes"], "empty.jsonl: has no rows"),
        (["letters.csv", "--json"], "give --yes as well"),
        (["letters.csv", "--specs", "s", "--yes", *SETTINGS, "--set", "name=rte"],
         "a task 'rte' is already in "),
        (["letters.csv", "--specs", "s", "--yes", *SETTINGS, "--set", "family=NLI"],
         "did you mean 'nli'?"),
        (["letters.csv", "--specs", "s", "--yes", *SETTINGS, "--set", "text={bodi}",
          "--set", "format=single"], "'bodi' is not a column here"),
    ],
)  # fmt: skip
def test_a_wrong_request(tmp_path: Path, arguments: list[str], message: str) -> None:
    write_table(tmp_path / "letters.csv")
    (tmp_path / "empty.jsonl").touch()
    done = muppet_zoo("add-task", *arguments, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert files_in(tmp_path) == {"letters.csv", "empty.jsonl"}


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"old")
    planned: dict[Path, bytes | Path] = {
        tmp_path / "a" / "b" / "new": b"new", tmp_path / "copy": tmp_path / "missing",
    }  # fmt: skip
    with pytest.raises(UsageError, match="cannot be written"):
        write_all(planned)
    assert files_in(tmp_path) == {"old"}


_FAKE_DOCTOR = """
import sys, types, click
from muppet_zoo import cli
from muppet_zoo.errors import MissingExtraError

@click.command("doctor")
@click.argument("tasks", nargs=-1)
@click.option("--specs", multiple=True)
def command(tasks, specs):
    if sys.argv.pop() == "missing":
        raise MissingExtraError("sklearn", "train")
    click.echo(f"examined {tasks} of {specs}")
    return 1

sys.modules["muppet_zoo.cli.doctor"] = types.SimpleNamespace(command=command)
cli._COMMANDS["doctor"] = ("doctor", "Examine.")
verdict = sys.argv.pop()
arguments, sys.argv = sys.argv, [*sys.argv, verdict]
cli.main.__globals__["cli"].main = lambda standalone_mode, run=cli.cli.main: run(
    arguments[1:], standalone_mode=standalone_mode)
cli.main()
"""


@pytest.mark.parametrize(
    ("verdict", "code", "shown"),
    [
        ("ill", 1, "$ muppet-zoo doctor letters --specs s\nexamined ('letters',) of ('s',)\n"),
        ("missing", 0, "doctor did not run: this needs the package 'sklearn'"),
    ],
)
def test_the_doctor_is_asked_where_there_is_one(
    tmp_path: Path, verdict: str, code: int, shown: str
) -> None:
    write_table(tmp_path / "letters.csv")
    arguments = ["add-task", "letters.csv", "--specs", "s", "--yes", *SETTINGS, verdict]
    done = subprocess.run(
        [sys.executable, "-c", _FAKE_DOCTOR, *arguments],
        cwd=tmp_path, env=child_env(), capture_output=True, encoding="utf-8", timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, "")
    assert shown in done.stdout


# --- in a terminal ---------------------------------------------------------------------------

PROMPTS = ("description (", "license (", "citation (", "homepage (", "languages (", "change ")
ANSWERS = [FACTS["description"], "CC0-1.0", FACTS["citation"], FACTS["homepage"], "en", ""]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def spawn(folder: Path, *arguments: str, columns: int = 100, colour: bool = False) -> Any:
    write_table(folder / "letters.csv")
    return pexpect.spawn(
        sys.executable,
        ["-m", "muppet_zoo", "add-task", "letters.csv", "--specs", "specs", *arguments],
        cwd=folder,
        env=terminal_env({"NO_COLOR": "" if colour else "1"}),
        dimensions=(40, columns),
        encoding="utf-8",
        timeout=120,
    )


def interrupt(child: Any) -> None:
    """Ctrl-C, again where it fell between the prompt and the reading, unheard by Python."""
    for _ in range(10):
        child.sendintr()
        if child.expect([r"interrupted\r\n", pexpect.TIMEOUT], timeout=2) == 0:
            child.expect(pexpect.EOF)
            return
    raise AssertionError("Ctrl-C is not heard")


@pytest.mark.parametrize("columns", [40, 100])
def test_the_whole_dialogue(tmp_path: Path, columns: int) -> None:
    child = spawn(tmp_path, columns=columns)
    shown = ""
    for prompt, answer in zip((*PROMPTS, "write? [Y/n]"), (*ANSWERS, "y"), strict=True):
        child.expect_exact(prompt)
        shown += child.before
        child.sendline(answer)
    shown += child.read()
    child.close()
    assert child.exitstatus == 0, shown
    words = " ".join(ESCAPES.sub("", shown).split())
    assert "2 text columns, of 4 and 7 words on average" in words
    assert "→ target delivery" in words.replace("→ target: delivery", "→ target delivery")
    assert "1 file, no findings" in words
    # The lines of the proposal and of the examples fit; prompts may be longer.
    proposal = shown.split("splits")[0].splitlines()
    assert all(len(ESCAPES.sub("", line)) <= columns for line in proposal)
    spec = load_zoo([tmp_path / "specs"]).task("letters")
    assert (spec.license, spec.citation) == ("CC0-1.0", FACTS["citation"])


WRONG = [
    ("description (", "short", "characters are needed"),
    ("license (", "?", "characters are needed"),
    ("citation (", "none", "characters are needed"),
    ("homepage (", "our wiki", "a web address that starts with"),
    ("languages (", "English", "BCP 47"),
    ("change ", "metrics=f2", "allowed: accuracy, f1, macro_f1"),
]


def test_a_wrong_answer_at_each_prompt_is_explained_and_asked_again(tmp_path: Path) -> None:
    child = spawn(tmp_path, columns=200)
    for (prompt, wrong, message), right in zip(WRONG, ANSWERS, strict=True):
        child.expect_exact(prompt)
        child.sendline(wrong)
        child.expect_exact("Error: ")
        child.expect_exact(prompt)
        assert message in child.before
        child.sendline(right)
    child.expect_exact("write? [Y/n]")
    child.sendline("perhaps")
    child.expect_exact("Error: invalid input")
    child.expect_exact("write? [Y/n]")
    child.sendline("n")
    child.expect_exact("nothing was written")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert files_in(tmp_path) == {"letters.csv"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("famly=nli", "no field is named 'famly'; did you mean 'family'"),
        ("family", "write FIELD=VALUE"),
        ("family=NLI", "did you mean 'nli'?"),
        ("first={bodi}", "'bodi' is not a column here"),
        ("target=nothing", "'nothing' is not a column here"),
        ("labels=a, a", "twice"),
        ("splits=train", "write roles as in a spec"),
        ("name=Two Words", "small letters"),
        ("name=rte\n", "a task 'rte' is already in"),
    ],
)
def test_a_wrong_change(tmp_path: Path, wrong: str, message: str) -> None:
    child = spawn(tmp_path, *SETTINGS, "--set", "license=MIT", columns=250)
    child.expect_exact("change ")
    child.sendline(wrong)
    child.expect_exact("Error: ")
    child.expect_exact("change ")
    assert message in child.before
    interrupt(child)


def test_a_change_is_followed_by_what_follows_from_it(tmp_path: Path) -> None:
    child = spawn(tmp_path, *SETTINGS, "--set", "license=MIT", columns=200)
    child.expect_exact("change ")
    child.sendline("format=single")
    child.expect_exact("{subject} {body}")
    child.expect_exact("change ")
    child.sendline("text={subject}: {body}")
    child.expect_exact("change ")
    child.sendline("")
    child.expect_exact("write? [Y/n]")
    child.sendline("")
    child.expect(pexpect.EOF)
    spec = load_zoo([tmp_path / "specs"]).task("letters")
    assert spec.raw["inputs"] == {"format": "single", "text": "{subject}: {body}"}


@pytest.mark.parametrize("stop", range(len(PROMPTS) + 1))
def test_ctrl_c_at_any_prompt_leaves_nothing(tmp_path: Path, stop: int) -> None:
    child = spawn(tmp_path, columns=200)
    for number, prompt in enumerate((*PROMPTS, "write? [Y/n]")):
        child.expect_exact(prompt)
        if number == stop:
            interrupt(child)
            break
        child.sendline(ANSWERS[number])
    child.close()
    assert child.exitstatus == 130
    assert files_in(tmp_path) == {"letters.csv"}


def test_no_color_means_none(tmp_path: Path) -> None:
    child = spawn(tmp_path, columns=60)
    child.expect_exact("description (")
    colours = re.findall(
        r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[0-9;]*m", child.before
    )
    assert not colours
    interrupt(child)


# --- in a checkout, from the hub -------------------------------------------------------------

_FAKE_HUB = """
import sys, types
import datasets, huggingface_hub

ROWS = [{"text": f"{mood} words about film {i}", "label": i % 2, "idx": i}
        for i, mood in enumerate(["kind", "harsh"] * 20)]
FEATURES = datasets.Features({
    "text": datasets.Value("string"),
    "label": datasets.ClassLabel(names=["positive", "negative"]),
    "idx": datasets.Value("int32"),
})

class HfApi:
    def dataset_info(self, name, *, revision=None):
        card = types.SimpleNamespace(license="cc-by-4.0", language=["en"])
        return types.SimpleNamespace(sha="c" * 40, card_data=card)

    def list_repo_files(self, name, **options):
        return ["README.md", "plain/train/0000.parquet", "plain/test/0000.parquet"]

def configs(path, **options):
    if path == "nobody/script":
        raise RuntimeError("Dataset scripts are no longer supported, but found script.py")
    if path == "nobody/offline":
        raise ConnectionError("cannot reach the hub")
    return ["big", "small"] if path == "nobody/two" else ["default"]

def builder(path, **options):
    assert options["revision"] == "c" * 40
    is_stated = path != "nobody/plain_files"
    info = types.SimpleNamespace(
        features=FEATURES if is_stated else None,
        splits={"train": 1, "test": 1} if is_stated else None, license="", citation="",
        homepage="", description="Letters about films, for tests.")
    return types.SimpleNamespace(info=info)

def load_dataset(path, **options):
    return datasets.Dataset.from_list(ROWS, features=FEATURES)

datasets.get_dataset_config_names = configs
datasets.get_dataset_split_names = lambda path, name, *, revision: ["train"]
datasets.load_dataset_builder = builder
datasets.load_dataset = load_dataset
huggingface_hub.HfApi = HfApi
from muppet_zoo.cli import main
from muppet_zoo.hub.rows import HubRows
HubRows._loaded = property(lambda self: load_dataset(self.source.hub))
main()
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout small enough to copy: the package, two specs, the test of the specs."""
    root = tmp_path_factory.mktemp("checkout")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "muppet_zoo", root / "muppet_zoo", ignore=ignore)
    (root / "task_specs" / "classification").mkdir(parents=True)
    (root / "tests" / "golden").mkdir(parents=True)
    for name in ("rte", "sst2"):
        shutil.copy(ROOT / f"task_specs/classification/{name}.yaml",
                    root / "task_specs/classification")  # fmt: skip
        shutil.copy(ROOT / f"tests/golden/{name}.json", root / "tests/golden")
    shutil.copy(ROOT / "tests/test_task_specs.py", root / "tests")
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def from_hub(checkout: Path, *arguments: str) -> Any:
    return subprocess.run(
        [sys.executable, "-c", _FAKE_HUB, "add-task", *arguments, "--yes"],
        cwd=checkout,
        env={**child_env(), "PYTHONPATH": str(checkout)},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def test_a_hub_dataset_joins_the_checkout_with_a_golden_test(checkout: Path) -> None:
    done = from_hub(checkout, "nobody/films", "--set", "citation=Nobody, nowhere.")
    assert done.returncode == 0, done.stderr
    spec_file = checkout / "task_specs" / "classification" / "films.yaml"
    text = spec_file.read_text("utf-8")
    assert text.startswith("# yaml-language-server: $schema=../../muppet_zoo/schemas/task_spec.")
    for part in (
        "hub: nobody/films",
        f"revision: {'c' * 40}",
        "columns: {text: string, label: label, idx: integer}",
        "labels: [positive, negative]",
        "license: CC-BY-4.0",
        "homepage: https://huggingface.co/datasets/nobody/films",
    ):
        assert part in text
    golden = json.loads((checkout / "tests" / "golden" / "films.json").read_text("utf-8"))
    assert "check" in golden["to_check"]
    assert golden["segments"] == [["kind words about film 0", None]]
    assert (golden["target"], golden["label"]) == (0, "positive")
    kept = checkout / "runs" / "samples" / "films" / "train.jsonl"
    assert len(kept.read_text("utf-8").splitlines()) == 20

    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_task_specs.py",
         "-k", "films or left_over"],
        cwd=checkout, env={**child_env(), "PYTHONPATH": str(checkout)},
        capture_output=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout
    assert "5 passed" in tested.stdout, tested.stdout


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nobody/plain_files"], [f"revision: {'c' * 40}", "splits: {train: train, validation:"]),
        (
            ["nobody/old", "--revision", "refs/convert/parquet"],
            [
                "config: plain",
                "revision: refs/convert/parquet",
                "splits: {train: train, validation:",
            ],
        ),
    ],
)
def test_what_the_card_does_not_state_the_files_do(
    checkout: Path, tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    settings = [*SETTINGS, "--set", "name=more_films", "--specs", str(tmp_path)]
    done = from_hub(checkout, *arguments, *settings)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "more_films.yaml").read_text("utf-8")
    for part in (*parts, "labels: [positive, negative]"):
        assert part in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody/script"], "needs code of its own to be run, which is never done here"),
        (["nobody/offline"], "ConnectionError: cannot reach the hub. Without the hub, give"),
        (["nobody/two"], "has 2 configurations; name one: --config big, small"),
        (["nobody/two", "--config", "smal"], "has no configuration 'smal'; did you mean 'small'?"),
    ],
)
def test_a_hub_dataset_that_cannot_be_used(
    checkout: Path, arguments: list[str], message: str
) -> None:
    before = files_in(checkout)
    done = from_hub(checkout, *arguments)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert {f for f in files_in(checkout) if "__pycache__" not in f} <= before
