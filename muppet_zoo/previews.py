"""What a spec makes of real rows, to look at: raw row → segments → tokens → target.

`add-task` shows three of them before it writes a spec, `preview` as many as asked for. They come
through `examples_of`, as the build's do, so what is shown is what is trained on. Tokens are shown
where a tokenizer is given, cut as `build` would cut them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muppet_zoo.examples import Example, examples_of
from muppet_zoo.file_tools import write_output
from muppet_zoo.formats import Segments
from muppet_zoo.heads import Classification, MultiLabel, MultipleChoice, TokenClassification
from muppet_zoo.metrics import load_library
from muppet_zoo.rows import Row, RowProblem
from muppet_zoo.spans import Span
from muppet_zoo.spec import TaskSpec

if TYPE_CHECKING:
    from muppet_zoo.encode import TokenizerSource

_ROLES = {
    "pair": ("first", "second"),
    "multiple_choice": ("context", "option"),
    "extractive_qa": ("question", "context"),
}


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One text that the model reads. `name` as in the spec's `inputs`; `sequence` from 0."""

    sequence: int
    name: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ShownExample:
    """One example in words. tokens: one list per sequence, empty without a tokenizer."""

    segments: tuple[Segment, ...]
    tokens: tuple[tuple[str, ...], ...]
    target: str | None


@dataclass(frozen=True, kw_only=True)
class Preview:
    """One source row with its examples: none where it is dropped, `problem` where it is bad."""

    number: int
    row: Row
    examples: tuple[ShownExample, ...]
    problem: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; the row as the source gives it."""
        return {
            "row_number": self.number,
            "row": self.row,
            "examples": [
                {
                    "segments": [vars(segment) for segment in example.segments],
                    "tokens": [list(tokens) for tokens in example.tokens],
                    "target": example.target,
                }
                for example in self.examples
            ],
            "problem": self.problem,
        }


def preview_rows(
    spec: TaskSpec,
    rows: Iterable[tuple[int, Row]],
    *,
    labelled: bool,
    tokenizer: TokenizerSource | None = None,
    max_tokens: int = 128,
) -> list[Preview]:
    """What `spec` makes of these numbered rows."""
    cut = _Cutter(tokenizer, max_tokens) if tokenizer is not None else None
    previews = []
    for number, row in rows:
        examples: list[Example] = []
        problem = None
        try:
            examples = examples_of(spec, number, row, labelled=labelled)
        except RowProblem as found:
            problem = str(found)
        shown = tuple(_shown(spec, example, cut) for example in examples)
        previews.append(Preview(number=number, row=row, examples=shown, problem=problem))
    return previews


def _shown(spec: TaskSpec, example: Example, cut: _Cutter | None) -> ShownExample:
    return ShownExample(
        segments=named_segments(spec, example.segments),
        tokens=() if cut is None else cut.tokens(example.segments),
        target=None if example.target is None else target_in_words(spec, example),
    )


def named_segments(spec: TaskSpec, segments: Segments) -> tuple[Segment, ...]:
    """The segments under the names that the spec's `inputs` give them."""
    if segments.words is not None:
        return (Segment(sequence=0, name="tokens", text=" ".join(segments.words)),)
    first_name, second_name = _ROLES.get(spec.inputs.format, ("text", "second"))
    named = []
    for i, (first, second) in enumerate(segments.sequences):
        if i == 0 or spec.inputs.format != "multiple_choice":
            named.append(Segment(sequence=i, name=first_name, text=first))
        if second is not None:
            name = f"option {i}" if second_name == "option" else second_name
            named.append(Segment(sequence=i, name=name, text=second))
    return tuple(named)


def target_in_words(spec: TaskSpec, example: Example) -> str:
    """The target as a person reads it: label names, the option's text, the answers."""
    target: Any = example.target
    match spec.head:
        case Classification(labels=labels):
            return str(labels[target])
        case MultiLabel(labels=labels):
            return ", ".join(labels[i] for i in target) or "(none)"
        case TokenClassification(labels=labels):
            tagged = zip(example.segments.words or (), target, strict=True)
            return " ".join(f"{word}/{labels[i]}" for word, i in tagged)
        case MultipleChoice():
            return f"option {target}: {example.segments.sequences[target][1]}"
        case Span():
            return " | ".join(target.answers) or "(no answer)"
    return str(target)


class _Cutter:
    """Tokens of a sequence, as many as the build keeps."""

    def __init__(self, source: TokenizerSource, max_tokens: int) -> None:
        self._tokenizer = source.load()
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens, strategy="longest_first")

    def tokens(self, segments: Segments) -> tuple[tuple[str, ...], ...]:
        encode = self._tokenizer.encode
        if segments.words is not None:
            return (tuple(encode(list(segments.words), is_pretokenized=True).tokens),)
        return tuple(
            tuple((encode(first) if second is None else encode(first, second)).tokens)
            for first, second in segments.sequences
        )


def write_preview_html(path: Path, title: str, previews: Sequence[Preview]) -> None:
    """Write a page that needs no other file; every text of the data is escaped."""
    environment = load_library("jinja2").Environment(autoescape=True, trim_blocks=True)
    page = environment.from_string(_PAGE).render(title=title, previews=previews)
    write_output(path, page.encode())


_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
section { border-top: 1px solid #ccc; padding: 1rem 0 }
dl { display: grid; grid-template-columns: 8rem 1fr; gap: .3rem 1rem; margin: 0 0 1rem }
dt { color: #555 } dd { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere }
.tokens span { background: #eef; border-radius: 3px; margin-right: .2rem; padding: 0 .2rem }
.target { font-weight: bold } .problem { color: #a00 }
@media (prefers-color-scheme: dark) {
  body { background: #111; color: #ddd } dt { color: #aaa } .tokens span { background: #335 }
}
</style>
<h1>{{ title }}</h1>
{% for preview in previews %}
<section>
<h2>row {{ preview.number }}</h2>
<dl>
{% for name, value in preview.row.items() %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}
</dl>
{% if preview.problem %}<p class="problem">not usable: {{ preview.problem }}</p>{% endif %}
{% if not preview.problem and not preview.examples %}<p>dropped by a row operation</p>{% endif %}
{% for example in preview.examples %}
<h3>example{{ " " ~ loop.index if preview.examples | length > 1 else "" }}</h3>
<dl>
{% for segment in example.segments %}
<dt>{{ segment.name }}</dt><dd>{{ segment.text }}</dd>
{% endfor %}
{% for tokens in example.tokens %}
<dt>{{ tokens | length }} tokens</dt>
<dd class="tokens">{% for token in tokens %}<span>{{ token }}</span>{% endfor %}</dd>
{% endfor %}
<dt>target</dt>
<dd class="target">{{ "not published" if example.target is none else example.target }}</dd>
</dl>
{% endfor %}
</section>
{% endfor %}
</html>
"""
