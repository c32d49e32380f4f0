"""`muppet-zoo validate` on broken files: every planted fault gives one finding, at its place.

`broken_specs/` holds one fault per file, named in its first line, where the fault leaves room for a
comment; `five_faults.yaml` has five. Files whose first line says "Valid" are there for others.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from helpers import muppet_zoo, spec_text, write_spec

from muppet_zoo.errors import SpecError
from muppet_zoo.yaml_reader import MAX_FILE_BYTES, read_yaml
from muppet_zoo.zoo import find_files, load_zoo, validate_paths

TESTS = Path(__file__).parent
BROKEN = TESTS / "broken_specs"
VALID = {
    "again/twice.yaml",
    "mixtures/nests_back.yaml",
    "shared_head_a.yaml",
    "twice.yaml",
    "unquoted_no.yaml",
}

EXPECTED = r"""
alias_bomb.yaml:3:15: level_1[0]: the alias *l0 (and 62 more below); anchors and aliases are not allowed, write it out
carved_away.yaml:13:40: source.splits.test.percent: 100 percent of 'train' are carved away; some must be left
carved_misspelt.yaml:10:58: source.splits.validation.precent: unknown key 'precent'; allowed: carve_from, percent, seed; did you mean 'percent'?
carved_percent.yaml:10:67: source.splits.validation.percent: found 60, at most 50 is expected
carved_train.yaml:10:19: source.splits.train: rows are carved for validation and test; training takes what is left
choices_type.yaml:11:64: inputs.choices: found 2, text or a list is expected
colon_in_text.yaml:15:19: a ':' is not expected here; quote text that holds ': ', or mend the indentation
column_name.yaml:9:28: source.columns.second text: 'second text' cannot be a name here; a column name is expected: letters, digits, _ and -, with a dot before an inner field
column_renamed_away.yaml:13:50: inputs.second: 'second' is not a column here; allowed: first, label, other
column_type.yaml:9:20: source.columns.first: found "text"; allowed: string, integer, number, boolean, label, strings, integers, numbers, labels, any
deeply_nested.yaml:13:29: metrics[0][0]: nested deeper than 20 levels
duplicate_key.yaml:14:1: metrics: the key 'metrics' stands twice; it is first on line 13
empty.yaml:1:1: the file is empty; a mapping of `key: value` is expected
empty_range.yaml:12:48: head.range: [5, 5] is no range; the lowest value comes first
empty_value.yaml:14:9: license: found nothing (null), text is expected
file_name.yaml:3:7: name: found 'another_name', but the file is file_name.yaml; both must be equal
files_above.yaml:7:18: source.files.train: '../golden/cola.json.gz.jsonl' leaves the folder of the spec; keep data beside it
files_absolute.yaml:7:18: source.files.train: '/data/rows.jsonl' leaves the folder of the spec; keep data beside it
files_kind.yaml:7:18: source.files.train: found "data/rows.txt"; a file that ends in .jsonl, .csv, .tsv (each also .gz) or .parquet is expected
files_missing.yaml:7:18: source.files.train: no such file: data/row.jsonl
files_split.yaml:9:19: source.splits.train: no file is given for 'trian'; allowed: train; did you mean 'train'?
files_symlink.yaml:7:18: source.files.train: 'data/link.jsonl' leaves the folder of the spec; keep data beside it
five_faults.yaml:2:1: citation: the key 'citation' is missing
five_faults.yaml:4:9: family: found "nil"; did you mean 'nli'?
five_faults.yaml:11:50: inputs.second: 'secnd' is not a column here; allowed: first, second, label; did you mean 'second'?
five_faults.yaml:12:71: head.labels[2]: "same" is listed twice
five_faults.yaml:13:21: metrics[1]: rouge1 does not score a classification head; allowed: accuracy, f1, macro_f1, micro_f1, matthews_correlation, group_exact_match
head_does_not_suit.yaml:12:14: head.type: a span head does not read the format pair; it reads: extractive_qa
homepage.yaml:16:11: homepage: found "www.example.org/pairs"; a web address that starts with https:// or http:// is expected
hub_and_files.yaml:9:3: source.files: only one of these keys may be given: hub, files
keys_and_options.yaml:12:52: head.keys: 3 keys for 2 options
label_is_boolean.yaml:12:65: head.labels[1]: found true, text is expected; put it in quotes: "true"
label_is_number.yaml:12:65: head.labels[1]: found 1, text is expected; put it in quotes: "1"
label_twice.yaml:12:71: head.labels[2]: "different" is listed twice
labels_differ_in_case.yaml:12:71: head.labels[2]: 'Same' differs from the label 'same' only in case or spaces
language.yaml:17:13: languages[0]: found "english"; a BCP 47 language tag such as en, pt-BR or zh-Hant is expected
latin_1.yaml:5:17: byte 0xe9 is not UTF-8; save the file as UTF-8
list_at_top.yaml:2:1: the file holds a list; a mapping of `key: value` is expected
metric_does_not_suit.yaml:13:20: metrics[1]: matthews_correlation does not score a regression head; allowed: pearson, spearman
missing_argument.yaml:12:5: rows[0].into: the key 'into' is missing
mixtures/cap_missing.yaml:6:8: rates.cap: the key 'cap' is missing
mixtures/excludes_nothing.yaml:6:17: exclude[1]: 'rtee' is not one of this mixture's tasks; did you mean 'rte'?
mixtures/member_missing.yaml:5:22: tasks[1]: no task is named 'shared_hed_a'; did you mean 'shared_head_a' or 'shared_head_b'?
mixtures/member_twice.yaml:5:37: tasks[2]: "unquoted_no" is listed twice
mixtures/names_a_mixture.yaml:5:22: tasks[1]: 'glue' is a mixture; name it under `mixtures`
mixtures/nested_missing.yaml:5:18: mixtures[1]: no mixture is named 'muppet_encodr'; did you mean 'muppet_encoder' or 'muppet'?
mixtures/nests_itself.yaml:5:12: mixtures[0]: a mixture cannot hold itself: nests_back -> nests_itself -> nests_back
mixtures/weights_extra.yaml:6:53: rates.weights.shared_head_a: 'shared_head_a' is not one of this mixture's tasks; allowed: unquoted_no
mixtures/weights_missing.yaml:6:36: rates.weights: no weight is given for shared_head_a; explicit rates name every task
no_revision.yaml:7:3: source.hub: 'hub' needs 'revision', which is missing
no_source.yaml:7:3: source.hub: one of these keys is needed: hub, files
not_a_number.yaml:12:52: head.range[1]: .nan is not a finite number; quote it if it is text
one_choice.yaml:11:64: inputs.choices: found a list of 1; at least 2 entries are needed
only_comments.yaml:1:1: the file holds only comments; a mapping is expected
python_tag.yaml:15:11: citation: the tag !!python/object/apply:os.system is not allowed; a spec is plain data
role_name.yaml:10:26: source.splits.dev: 'dev' cannot be a name here; a role is train, validation or test, with a suffix such as validation_mismatched where needed
shared_head_b.yaml:12:85: head.shared_head: 'sameness' is shared with shared_head_a, whose head type, labels or range differ; tasks that share a head have equal ones
spec_version.yaml:2:15: spec_version: found 2, 1 is expected
split_type.yaml:10:38: source.splits.validation: found a list of 1, text or a mapping is expected
tab.yaml:9:1: a tab where YAML wants spaces; indent with spaces
target_type_does_not_suit.yaml:12:38: head.target: column 'label' is declared as number; a classification target is one of: boolean, integer, label, string
template_brace.yaml:11:31: inputs.first: a brace has no partner; write {{ and }} for literal braces
template_conversion.yaml:11:31: inputs.first: the placeholder {first!r} is not a column name; write {column}, or {{ and }} for literal braces
template_index.yaml:11:31: inputs.first: the placeholder {first.words[0]} is not a column name; write {column}, or {{ and }} for literal braces
template_of_a_list.yaml:11:50: inputs.second: column 'second' is declared as strings; one value is expected here
template_without_braces.yaml:11:31: inputs.first: this is the word 'first' itself; write "{first}" for the column
trailing_line_break.yaml:3:7: name: found "trailing_line_break\n"; a name of up to 64 small letters, digits and _ is expected
twice.yaml:3:7: name: a task 'twice' already exists in broken_specs/again/twice.yaml; names are unique
two_documents.yaml:18:1: a second document starts here (`---`); one file holds one spec
unclosed_quote.yaml:15:11: text in quotes starts here and is never closed
unknown_column_in_head.yaml:12:38: head.target: 'labels' is not a column here; allowed: first, second, label; did you mean 'label'?
unknown_column_in_rows.yaml:12:28: rows[0].columns.frist: 'frist' is not a column here; allowed: first, second, label; did you mean 'first'?
unknown_column_in_template.yaml:11:50: inputs.second: 'secnd' is not a column here; allowed: first, second, label; did you mean 'second'?
unknown_family.yaml:4:9: family: found "PARAPHRASE"; did you mean 'paraphrase'?
unknown_format.yaml:11:18: inputs.format: found "pairs"; allowed: single, pair, multiple_choice, extractive_qa, tokens, text_to_text; did you mean 'pair'?
unknown_key.yaml:13:1: metric: unknown key 'metric'; did you mean 'metrics'?
unknown_metric.yaml:13:11: metrics[0]: found "acuracy"; did you mean 'accuracy'?
unknown_nested_key.yaml:11:42: inputs.secnd: unknown key 'secnd'; allowed: format, first, second; did you mean 'second'?
unknown_operation.yaml:12:10: rows[0].op: found "upper"; allowed: rename, pick, join, map_values, keep_where, drop_where, explode, bin, flags, mark_span, mark_words, locate, flatten, split_at, split_options, replace_text, keep_words
unquoted_template.yaml:11:31: inputs.first: found a mapping, text is expected; put it in quotes: "{first}"
"""  # noqa: E501


def findings_of(name: str) -> list[str]:
    return [line for line in EXPECTED.strip().splitlines() if line.startswith(f"{name}:")]


def names(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in find_files([root])]


@pytest.fixture(scope="module")
def found() -> list[str]:
    """Findings of the whole folder, by a real process, with paths as a user writes them."""
    done = muppet_zoo("validate", "broken_specs", cwd=TESTS)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert re.fullmatch(r"\d+ findings in \d+ files\n", done.stderr)
    return [line.removeprefix("broken_specs/") for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", names(BROKEN))
def test_a_fault_gives_its_finding(name: str, found: list[str]) -> None:
    assert [line for line in found if line.startswith(f"{name}:")] == findings_of(name)


def test_every_file_is_broken_or_declared_valid() -> None:
    broken = {name for name in names(BROKEN) if findings_of(name)}
    assert broken == set(names(BROKEN)) - VALID | {"twice.yaml"}
    assert len(broken) >= 25


def test_one_fault_gives_one_finding() -> None:
    assert {name: n for name in names(BROKEN) if (n := len(findings_of(name))) > 1} == {
        "five_faults.yaml": 5
    }


def test_json_holds_the_same_findings(found: list[str]) -> None:
    done = muppet_zoo("validate", "broken_specs", "--json", cwd=TESTS)
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert report["files"] == len(names(BROKEN))
    lines = []
    for item in report["findings"]:
        field = f"{item['field']}: " if item["field"] else ""
        where = f"{item['path']}:{item['line']}:{item['column']}: "
        lines.append((where + field + item["message"]).removeprefix("broken_specs/"))
    assert lines == found


def test_a_finding_stands_where_the_file_has_the_faulty_word(found: list[str]) -> None:
    for line in found:
        name, row, column, rest = line.split(":", 3)
        quoted = re.match(r'.*?(?:unknown key|found|alias) ["\'*]?([\w-]+)', rest)
        raw = (BROKEN / name).read_bytes().decode("latin-1").splitlines()
        if quoted and quoted[1] not in ("a", "nothing", "an", "trailing_line_break"):
            assert re.match(rf"[\"'*]?{quoted[1]}", raw[int(row) - 1][int(column) - 1 :]), line


def test_unquoted_no_is_a_word() -> None:
    labels = read_yaml(BROKEN / "unquoted_no.yaml").data["head"]["labels"]
    assert labels == ["no", "yes", "off", "null"]


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    path.write_text(spec_text(name="huge") + "# more\n" * (MAX_FILE_BYTES // 7))
    _, findings = validate_paths([path])
    message = "is larger than 256 KiB; a spec is a page of YAML, not data"
    assert [str(finding) for finding in findings] == [f"{path}:1:1: {message}"]


@pytest.mark.parametrize("text", ["- " * 100_000, "[" * 250_000, "{a: " * 60_000, "? " * 100_000])
def test_bottomless_nesting_is_one_quick_finding(text: str, tmp_path: Path) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text(text)
    _, findings = validate_paths([path])
    assert findings[-1].message == "nested deeper than 20 levels"


def test_a_named_pipe_a_folder_and_a_dead_link_are_findings(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "dead.yaml").symlink_to("nothing")
    (tmp_path / "folder.yaml").mkdir()
    number, findings = validate_paths([tmp_path])
    assert number == 2
    assert [finding.message for finding in findings] == [
        "cannot be read: No such file or directory",
        "is not a regular file",
    ]


def test_a_copy_of_a_shipped_spec_is_no_clash_but_a_changed_one_is(tmp_path: Path) -> None:
    shipped = load_zoo().tasks["sst2"].path
    copy = tmp_path / "sst2.yaml"
    copy.write_bytes(shipped.read_bytes())
    assert validate_paths([copy]) == (1, [])
    copy.write_bytes(shipped.read_bytes() + b"# mine\n")
    _, findings = validate_paths([copy])
    assert [finding.message for finding in findings] == [
        f"a task 'sst2' already exists in {shipped}; names are unique"
    ]


def test_a_mixture_may_name_shipped_tasks(tmp_path: Path) -> None:
    text = "mixture_version: 1\nname: mine\ndescription: Two tasks.\ntasks: [sst2, {}]\n"
    path = tmp_path / "mine.yaml"
    path.write_text(text.format("cola"))
    assert validate_paths([path]) == (1, [])
    path.write_text(text.format("colla"))
    _, findings = validate_paths([path])
    assert [f.message.partition(";")[0] for f in findings] == ["no task is named 'colla'"]


def test_a_broken_member_is_not_missing_as_well(tmp_path: Path) -> None:
    (tmp_path / "member.yaml").write_text("- not a spec\n")
    mixture = tmp_path / "mine.yaml"
    mixture.write_text(
        "mixture_version: 1\nname: mine\ndescription: An invented one.\ntasks: [member]\n"
    )
    _, findings = validate_paths([tmp_path])
    assert [finding.path.name for finding in findings] == ["member.yaml"]


def test_load_zoo_raises_all_findings_of_all_files(tmp_path: Path) -> None:
    write_spec(tmp_path, "one", ("metrics: [accuracy]", "metrics: [acuracy]"))
    write_spec(tmp_path, "two", ("family: paraphrase", "family: none"), ("[en]", "[English]"))
    with pytest.raises(SpecError) as caught:
        load_zoo([tmp_path])
    assert [(f.path.name, f.field) for f in caught.value.findings] == [
        ("one.yaml", "metrics[0]"),
        ("two.yaml", "family"),
        ("two.yaml", "languages[0]"),
    ]
