"""How licences are written, what they permit, and builds that are refused for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import ROOT, make_spec, muppet_zoo, write_spec
from license_expression import get_spdx_licensing

from muppet_zoo.build import BuildOptions, build
from muppet_zoo.encode import TokenizerSource
from muppet_zoo.errors import SpecError, UnknownNameError
from muppet_zoo.licenses import (
    POLICIES,
    TERMS,
    LicenseError,
    check_policy,
    license_problem,
    objection,
)
from muppet_zoo.spec import parse_task_spec
from muppet_zoo.yaml_reader import read_yaml
from muppet_zoo.zoo import load_zoo

SPDX = get_spdx_licensing()


@pytest.mark.parametrize(
    "license",
    ["unknown", "CC-BY-4.0", "Zlib", "LicenseRef-Our-Terms", "CC-BY-4.0 AND LicenseRef-Texts"],
)
def test_what_may_be_written(license: str) -> None:
    assert license_problem(license) is None


@pytest.mark.parametrize(
    ("license", "told"),
    [
        ("CC-BY-4.O", "'CC-BY-4.O' is no SPDX identifier; LicenseRef-NAME is for terms that SPDX "
         "does not list, AND joins several that all hold, and 'unknown' says that the publisher "
         "states none; did you mean 'CC-BY-4.0' or 'CC-BY-3.0' or 'CC-BY-2.5'?"),
        ("Apache 2", "did you mean 'Apache-2.0'"),
        ("cc-by-4.0", "found 'cc-by-4.0'; SPDX writes 'CC-BY-4.0'"),
        ("GPL-3.0", "found 'GPL-3.0'; SPDX writes 'GPL-3.0-only'"),
        ("MIT OR CC-BY-4.0", "name the one under which the data is used here"),
        ("MIT AND other", "'other' is no SPDX identifier"),
        ("LicenseRef-two words", "'LicenseRef-two words' is no SPDX identifier"),
    ],
)  # fmt: skip
def test_what_may_not(license: str, told: str) -> None:
    assert told in (license_problem(license) or "")


def test_a_spec_is_told_at_its_line(tmp_path: Path) -> None:
    path = write_spec(tmp_path, "pairs", ("license: CC0-1.0", "license: CCO-1.0"))
    with pytest.raises(SpecError, match=r"license: 'CCO-1\.0' is no SPDX.*mean 'CC0-1\.0'"):
        parse_task_spec(read_yaml(path))


def test_every_identifier_in_the_table_is_spdxs_and_stands_once() -> None:
    names = [name for terms in TERMS for name in terms.licenses]
    assert len(names) == len(set(names))
    for name in names:
        if not name.startswith("LicenseRef-"):
            assert SPDX.validate(name).normalized_expression == name


def test_every_group_says_where_its_reading_comes_from() -> None:
    for terms in TERMS:
        assert terms.why
        assert terms.source
        assert set(terms.permits) <= set(POLICIES) - {"any"}


def test_every_licence_of_the_zoo_is_in_the_table_or_unknown() -> None:
    known = {name for terms in TERMS for name in terms.licenses} | {"unknown"}
    used = {part for spec in load_zoo().tasks.values() for part in spec.license.split(" AND ")}
    assert used <= known


def test_no_named_licence_in_the_table_is_left_over() -> None:
    used = {part for spec in load_zoo().tasks.values() for part in spec.license.split(" AND ")}
    own = {name for t in TERMS for name in t.licenses if name.startswith("LicenseRef-")}
    assert own <= used


@pytest.mark.parametrize(
    ("license", "redistributable", "commercial"),
    [
        ("CC0-1.0", True, True),
        ("CC-BY-SA-3.0", True, True),
        ("MIT", True, True),
        ("CC-BY-NC-4.0", True, False),
        ("CC-BY-ND-4.0", False, True),
        ("CC-BY-NC-ND-4.0", False, False),
        ("LicenseRef-RACE", False, False),
        ("CC-BY-4.0 AND CC-BY-NC-4.0", True, False),
        ("CC-BY-SA-4.0 AND LicenseRef-STS-Texts", False, False),
        ("unknown", False, False),
        ("LicenseRef-Never-Heard-Of", False, False),
        ("Zlib", False, False),
    ],
)
def test_what_is_permitted(license: str, redistributable: bool, commercial: bool) -> None:
    assert (objection(license, "redistributable") is None) is redistributable
    assert (objection(license, "commercial") is None) is commercial
    assert objection(license, "any") is None


def test_the_refusal_names_every_task_and_its_licence() -> None:
    tasks = [("a", "MIT"), ("b", "unknown"), ("c", "CC-BY-NC-4.0"),
             ("d", "MIT AND LicenseRef-RACE")]  # fmt: skip
    with pytest.raises(LicenseError) as caught:
        check_policy(tasks, "commercial")
    assert str(caught.value).splitlines() == [
        "the policy 'commercial' does not permit 3 tasks; leave them out, or choose another "
        "policy (any, redistributable, commercial):",
        "  b: unknown, no licence is stated",
        "  c: CC-BY-NC-4.0, not for commercial use",
        "  d: MIT AND LicenseRef-RACE, of LicenseRef-RACE: for research, or not for commercial "
        "use, under terms of the publisher's own",
    ]
    check_policy(tasks, "any")
    with pytest.raises(UnknownNameError, match="did you mean 'commercial'"):
        check_policy(tasks, "comercial")


def test_a_build_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    tokenizer = TokenizerSource(name="none", path=tmp_path / "none", digest="0" * 64)
    path = write_spec(tmp_path, "other", ("license: CC0-1.0", "license: unknown"))
    specs = [make_spec(tmp_path, "pairs"), parse_task_spec(read_yaml(path))]
    options = BuildOptions(license_policy="redistributable")
    with pytest.raises(LicenseError, match="other: unknown"):
        build(specs, tokenizer=tokenizer, out=tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()


MIXTURE = """\
mixture_version: 1
name: ours
description: What we may ship, and one task more.
tasks: [qs_topic, cola]
license_policy: redistributable
"""


def test_a_mixtures_policy_holds_unless_the_command_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_text(MIXTURE)
    (tmp_path / "mirror").mkdir()
    tokenizer = str(ROOT / "task_specs" / "quickstart" / "tiny_encoder")
    arguments = ("build", "--mixture", "ours", "--specs", str(tmp_path), "--out",
                 str(tmp_path / "out"), "--tokenizer", tokenizer, "--limit", "20",
                 "--mirror", str(tmp_path / "mirror"))  # fmt: skip
    refused = muppet_zoo(*arguments)
    assert refused.returncode == 1
    assert "cola: unknown, no licence is stated" in refused.stderr
    assert "qs_topic:" not in refused.stderr
    assert not (tmp_path / "out").exists()
    told = muppet_zoo(*arguments, "--license-policy", "any", "--json")
    built = {split["task"] for split in json.loads(told.stdout)["splits"]
             if split["status"] == "built"}  # fmt: skip
    assert built == {"qs_topic"}, told.stderr
