"""What a dataset's licence is called, and what it permits.

A spec names licences as SPDX does, several joined by AND where all of them hold. Terms that SPDX
does not list are `LicenseRef-…`, with what is known of them in the table below; where a publisher
states nothing it is `unknown`. What each permits is written down here, once, by people: a licence
that is unknown, or not in the table, permits nothing.

Two questions are asked, for two policies. `redistributable`: may the shards be passed on? They are
made from the texts, an adaptation of them, so a licence without derivatives (ND) does not allow it,
while one for non-commercial use (NC) does, to whom it allows it. `commercial`: may they, and models
trained on them, be used in commerce? This is a reading of the licences' texts and no legal advice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from muppet_zoo.errors import MuppetZooError, UnknownNameError, suggest

UNKNOWN = "unknown"
POLICIES = ("any", "redistributable", "commercial")

_REF = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")
_ALL_OF = " AND "


class LicenseError(MuppetZooError):
    """Licences do not permit what a policy asks."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a group of licences has in common. `permits`: policies; `source`: where that is said."""

    permits: tuple[str, ...]
    why: str
    source: str
    licenses: tuple[str, ...]


_SPDX = "https://spdx.org/licenses"
_CC = "https://creativecommons.org/licenses"

TERMS = (
    Terms(
        permits=("redistributable", "commercial"),
        why="no rights are kept",
        source="https://creativecommons.org/publicdomain/zero/1.0/legalcode",
        licenses=("CC0-1.0", "CC-PDDC", "PDDL-1.0", "Unlicense"),
    ),
    Terms(
        permits=("redistributable", "commercial"),
        why="any use, with attribution",
        source=f"{_CC}/by/4.0/legalcode, section 2(a)(1) and 3(a)",
        licenses=(
            "CC-BY-1.0", "CC-BY-2.0", "CC-BY-2.5", "CC-BY-3.0", "CC-BY-4.0", "ODC-By-1.0",
            "CDLA-Permissive-1.0", "CDLA-Permissive-2.0",
        ),
    ),
    Terms(
        permits=("redistributable", "commercial"),
        why="any use, with attribution, adaptations under the same terms",
        source=f"{_CC}/by-sa/4.0/legalcode, section 3(b)",
        licenses=(
            "CC-BY-SA-1.0", "CC-BY-SA-2.0", "CC-BY-SA-2.5", "CC-BY-SA-3.0", "CC-BY-SA-4.0",
            "ODbL-1.0", "CDLA-Sharing-1.0", "GFDL-1.3-only", "GFDL-1.3-or-later",
        ),
    ),
    Terms(
        permits=("redistributable",),
        why="not for commercial use",
        source=f"{_CC}/by-nc/4.0/legalcode, section 1(i) and 2(a)(1)",
        licenses=(
            "CC-BY-NC-1.0", "CC-BY-NC-2.0", "CC-BY-NC-2.5", "CC-BY-NC-3.0", "CC-BY-NC-4.0",
            "CC-BY-NC-SA-1.0", "CC-BY-NC-SA-2.0", "CC-BY-NC-SA-2.5", "CC-BY-NC-SA-3.0",
            "CC-BY-NC-SA-4.0",
        ),
    ),
    Terms(
        permits=("commercial",),
        why="adaptations may not be passed on",
        source=f"{_CC}/by-nd/4.0/legalcode, section 2(a)(1)(B)",
        licenses=("CC-BY-ND-4.0",),
    ),
    Terms(
        permits=(),
        why="not for commercial use, and adaptations may not be passed on",
        source=f"{_CC}/by-nc-nd/4.0/legalcode, section 2(a)(1)",
        licenses=("CC-BY-NC-ND-3.0", "CC-BY-NC-ND-4.0", "CC-BY-ND-3.0"),
    ),
    Terms(
        permits=("redistributable", "commercial"),
        why="a licence for software, approved by the OSI: any use, also changed",
        source=f"{_SPDX} (column OSI approved), https://opensource.org/osd, items 1, 3 and 6",
        licenses=(
            "MIT", "Apache-2.0", "AFL-3.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "GPL-2.0-only",
            "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later", "AGPL-3.0-only",
            "AGPL-3.0-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later",
        ),
    ),
    Terms(
        permits=("redistributable", "commercial"),
        why="the publisher says: any purpose",
        source="PAWS: its README, 'may be freely used for any purpose'; NCBI: its public domain "
        "notice for works of the United States government",
        licenses=("LicenseRef-PAWS", "LicenseRef-US-Government-Work"),
    ),
    Terms(
        permits=(),
        why="for research, or not for commercial use, under terms of the publisher's own",
        source="the publisher's terms, at each task's homepage",
        licenses=(
            "LicenseRef-DREAM", "LicenseRef-Emotion-Research", "LicenseRef-MSR-Data",
            "LicenseRef-MSR-LA", "LicenseRef-MSR-SSLA", "LicenseRef-Multi-News",
            "LicenseRef-MultiRC-Research", "LicenseRef-RACE", "LicenseRef-Reuters-Corpus",
            "LicenseRef-RiddleSense", "LicenseRef-SemEval-2018-Task-1",
            "LicenseRef-Yelp-Dataset-Agreement",
        ),
    ),
    Terms(
        permits=(),
        why="texts from many places, each under terms of its own",
        source="MultiNLI: OANC's terms, fiction under CC-BY-3.0, CC-BY-SA-3.0 and others; STS: the "
        "texts of the benchmark; SILICONE: its corpora; Universal Dependencies: its treebanks",
        licenses=(
            "LicenseRef-MultiNLI", "LicenseRef-STS-Texts", "LicenseRef-SILICONE-Corpora",
            "LicenseRef-UD-Treebanks",
        ),
    ),
)  # fmt: skip
_TERMS_OF = {name: terms for terms in TERMS for name in terms.licenses}


def license_problem(license: str) -> str | None:
    """What is wrong with how a licence is written; None when it is right."""
    if license == UNKNOWN:
        return None
    for part in license.split(_ALL_OF):
        if part in _TERMS_OF or _REF.fullmatch(part):
            continue
        problem = _spdx_problem(part)
        if problem:
            return problem
    return None


def _spdx_problem(name: str) -> str | None:
    if " OR " in name:
        return f"found '{name}'; name the one under which the data is used here"
    # Loading SPDX's list takes longer than a spec; most licences are in the table above.
    from license_expression import get_spdx_licensing

    # Looked up, not parsed: the library's parser is for expressions that are right.
    symbols = {
        key: symbol
        for key, symbol in get_spdx_licensing().known_symbols.items()
        if not symbol.is_exception and not _REF.fullmatch(key)
    }
    if name in symbols:
        return None
    for key, symbol in symbols.items():
        if name.casefold() in (key.casefold(), *(alias.casefold() for alias in symbol.aliases)):
            return f"found '{name}'; SPDX writes '{key}'"
    return (
        f"'{name}' is no SPDX identifier; LicenseRef-NAME is for terms that SPDX does not list, "
        f"AND joins several that all hold, and '{UNKNOWN}' says that the publisher states none"
        f"{suggest(name, symbols)}"
    )


def objection(license: str, policy: str) -> str | None:
    """Why a licence does not permit what the policy asks; None when it does."""
    if policy == "any":
        return None
    if license == UNKNOWN:
        return "no licence is stated"
    parts = license.split(_ALL_OF)
    for part in parts:
        terms = _TERMS_OF.get(part)
        if terms is None or policy not in terms.permits:
            why = terms.why if terms else "nobody has written down what it permits (licenses.py)"
            return f"of {part}: {why}" if len(parts) > 1 else why
    return None


def check_policy(licenses: Iterable[tuple[str, str]], policy: str) -> None:
    """Refuse (task, licence) pairs that the policy does not permit.

    Raises:
        LicenseError: naming every such task, its licence, and why.
        UnknownNameError: there is no such policy.
    """
    if policy not in POLICIES:
        raise UnknownNameError("licence policy", policy, POLICIES)
    refused = [
        f"  {task}: {name}, {reason}"
        for task, name in licenses
        if (reason := objection(name, policy)) is not None
    ]
    if refused:
        tasks = "task" if len(refused) == 1 else "tasks"
        raise LicenseError(
            f"the policy '{policy}' does not permit {len(refused)} {tasks}; leave them out, or "
            f"choose another policy ({', '.join(POLICIES)}):\n" + "\n".join(refused)
        )
