"""Texts that were damaged on the way: read in the wrong encoding, escaped, or full of controls.

`ftfy` knows what UTF-8 looks like that was decoded as something else; only texts that it would
repair count, so accented letters and emoji do not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator

from muppet_zoo.doctor.records import Diagnosis, RowRef, graded, listed
from muppet_zoo.doctor.sample import TaskSample
from muppet_zoo.doctor.thresholds import Thresholds
from muppet_zoo.examples import Example
from muppet_zoo.metrics import load_library

_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{2,5}|#x[0-9a-fA-F]{2,4});")
# Line ends and tabs are text; C1 (0x80 to 0x9f) is always Windows text in a wrong encoding.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def check_encodings(sample: TaskSample, limits: Thresholds) -> Iterator[Diagnosis]:
    """`mojibake`, `replacement_character`, `html_entity`, `control_character` in inputs."""
    fix_encoding: Callable[[str], str] = load_library("ftfy", extra="check").fix_encoding
    refs: dict[str, list[RowRef]] = defaultdict(list)
    shown: dict[str, str] = {}
    num_examples = 0
    for split in sample.splits:
        num_examples += len(split.examples)
        for example in split.examples:
            for check, found in _faults(_text_of(example), fix_encoding):
                refs[check].append(split.ref(example.row))
                shown.setdefault(check, found)
    for check, found_in in refs.items():
        count = len(set(found_in))
        share = count / num_examples
        yield Diagnosis(
            task=sample.spec.name,
            check=check,
            severity=graded(share, warning=limits.common_fault) if count >= limits.few else "note",
            message=f"{_MEANING[check]} in {count:,} of {num_examples:,} inputs, such "
            f"as {shown[check]!r}",
            numbers={"examples": num_examples, "share": round(share, 4)},
            **listed(found_in),
        )


_MEANING = {
    "mojibake": "text in a wrong encoding",
    "replacement_character": "characters lost in decoding (U+FFFD)",
    "html_entity": "HTML entities that were not decoded",
    "control_character": "control characters",
}


def _text_of(example: Example) -> str:
    parts = [text for pair in example.segments.sequences for text in pair if text]
    return "\n".join([*parts, *(example.segments.words or ())])


def _faults(text: str, fix_encoding: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """(check, an excerpt) for each kind of damage in the text."""
    if found := _ENTITY.search(text):
        yield "html_entity", _around(text, found.start())
    if found := _CONTROL.search(text):
        yield "control_character", _around(text, found.start())
    if text.isascii():
        return
    if "\ufffd" in text:
        yield "replacement_character", _around(text, text.index("\ufffd"))
    for line in text.split("\n"):
        if (fixed := fix_encoding(line)) != line:
            pairs = enumerate(zip(line, fixed, strict=False))
            at = next((i for i, (a, b) in pairs if a != b), 0)
            yield "mojibake", _around(line, at)
            return


def _around(text: str, at: int) -> str:
    return text[max(at - 12, 0) : at + 16]
