"""What using tasks obliges one to name: a BibTeX file of their citations, and a NOTICE.

Several tasks cite one paper, and two specs may use one key for different entries; a .bib file needs
each key once. Equal entries are therefore merged, and a key that is taken gets a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from muppet_zoo.spec import TaskSpec

_KEY = re.compile(r"@\w+\s*\{\s*([^\s,{}]+)\s*,")
_SPECIAL = re.compile(r"([&%$#_{}])")
_RULE = "-" * 72


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A BibTeX entry, its key, and the tasks that cite it."""

    key: str
    text: str
    tasks: tuple[str, ...]


def entries_of(specs: Iterable[TaskSpec]) -> list[Entry]:
    """The entries that these tasks cite, each once, in the order of their first task."""
    texts: dict[tuple[str, str], str] = {}  # (key, entry without regard to white space) -> entry
    tasks: dict[tuple[str, str], list[str]] = {}
    for spec in specs:
        for text in _entries(spec):
            found = _KEY.match(text)
            same = (found[1] if found else "", " ".join(text.split()))
            texts.setdefault(same, text)
            tasks.setdefault(same, []).append(spec.name)
    used: set[str] = set()
    entries = []
    for same, text in texts.items():
        key = _free(same[0], used)
        used.add(key.casefold())
        renamed = text.replace(same[0], key, 1)
        entries.append(Entry(key=key, text=renamed, tasks=tuple(dict.fromkeys(tasks[same]))))
    return entries


def bibliography(entries: Sequence[Entry]) -> str:
    """A .bib file; what stands between entries, here the tasks, is a comment in BibTeX."""
    return "\n".join(f"% {', '.join(entry.tasks)}\n{entry.text}\n" for entry in entries)


def notice(specs: Sequence[TaskSpec], entries: Sequence[Entry]) -> str:
    """Each task with its dataset, licence, homepage, and the keys of what it cites."""
    keys: dict[str, list[str]] = {}
    for entry in entries:
        for task in entry.tasks:
            keys.setdefault(task, []).append(entry.key)
    head = (
        "This work uses the datasets below, which others made. Each has a licence of its own,\n"
        "named as its publisher states it; 'unknown' means that none is stated."
    )
    blocks = [
        "\n".join(
            (
                spec.name,
                f"  dataset:  {dataset_of(spec)}",
                f"  licence:  {spec.license}",
                f"  homepage: {spec.homepage}",
                f"  cite as:  {', '.join(keys[spec.name])}",
            )
        )
        for spec in specs
    ]
    return f"NOTICE\n\n{head}\n\n{_RULE}\n\n" + "\n\n".join(blocks) + "\n"


def dataset_of(spec: TaskSpec) -> str:
    """The dataset in words: its name on the hub with configuration and revision."""
    source = spec.source
    if source.hub is None:
        return "files that come with the task"
    config = f", configuration {source.config}" if source.config else ""
    return f"{source.hub}{config}, revision {source.revision}"


def _entries(spec: TaskSpec) -> list[str]:
    """The BibTeX entries of a task; one is made where it asks in words to be cited."""
    citation = spec.citation.strip()
    if citation.startswith("@"):
        return [entry.strip() for entry in _split(citation)]
    note, title = _escaped(" ".join(citation.split())), _escaped(spec.name)
    return [
        f"@misc{{{spec.name},\n"
        f"  title = {{{title}}},\n"
        f"  note = {{{note}}},\n"
        f"  howpublished = {{\\url{{{spec.homepage}}}}}\n"
        "}"
    ]


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def _split(citation: str) -> list[str]:
    """The entries of a text, cut where an entry begins and all braces are closed."""
    cuts, depth = [], 0
    for at, character in enumerate(citation):
        if character == "@" and depth == 0:
            cuts.append(at)
        depth += {"{": 1, "}": -1}.get(character, 0)
    return [citation[a:b] for a, b in zip(cuts, [*cuts[1:], len(citation)], strict=True)]


def _free(key: str, used: set[str]) -> str:
    """The key, or with the first number that is not taken; BibTeX does not tell cases apart."""
    free, number = key, 2
    while free.casefold() in used:
        free, number = f"{key}-{number}", number + 1
    return free
