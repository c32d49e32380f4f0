"""What a finetune plan found: one `CellResult` per scored cell, and the answers behind its scores.

    DIR/results.jsonl                one line per cell that was scored, in the order of scoring
    DIR/predictions/<cell>.jsonl     its predictions, one line per example, in the split's order

Means and tests are made elsewhere and later, from these files alone, so they hold everything that
a comparison needs: which rows were answered, what they were trained on, and by what software.
A line is written by one call and flushed; a last line that a crash cut is passed over and mended,
anything else that is malformed is named by file and line, as for reports (`results.py`). Unknown
fields are passed over, since results outlive the version that wrote them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from muppet_zoo.errors import suggest
from muppet_zoo.file_tools import append_line, end_last_line, write_atomically
from muppet_zoo.results import ReportError

RESULTS_FILE = "results.jsonl"
PREDICTIONS_FOLDER = "predictions"
ALL = "all"

Shots = int | str  # a number of examples, or ALL
CellKey = tuple[str, str, str, Shots, int]


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """Scores of one fine-tuned model on one split of its target.

    shots: labelled examples it was trained on; "all" is the train split without held-out rows.
    settings: the point of the grid that was chosen, by dotted key of a run file.
    headline: the metric in `scores` that counts first.
    data_fingerprint: names the built data that was scored; equal where predictions pair up.
    checkpoint_fingerprint: digest of the weights that the fine-tuning started from.
    commit: of the checkout that muppet-zoo ran from, None for an installed one.
    seconds: training and scoring of this cell.
    predictions: path of the predictions, relative to the file of the results; None where none were
        kept.
    overlap: rows it was trained on whose inputs are those of scored rows; None where not compared.
    training: digest of all that made the model, None in results that are older than it.

    Raises ReportError for fields that a reader would later reject.
    """

    arm: str
    target: str
    split: str
    shots: Shots
    seed: int
    settings: Mapping[str, Any]
    scores: Mapping[str, float]
    headline: str
    num_examples: int
    steps: int
    data_fingerprint: str
    checkpoint_fingerprint: str
    versions: Mapping[str, str]
    commit: str | None
    seconds: float
    predictions: str | None
    overlap: int | None = None
    training: str | None = None

    def __post_init__(self) -> None:
        if problem := _problem(self):
            raise ReportError(f"result of arm {self.arm!r} on {self.target!r}: {problem}")

    @property
    def key(self) -> CellKey:
        """What tells it from the other results of a plan."""
        return self.arm, self.target, self.split, self.shots, self.seed


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One example's answer and its target, in the form that metrics compare (`metrics.py`).

    row: the source row's number from 0; of a row that was exploded into several examples
        "ROW.NUMBER", counted from 0 inside the row.
    """

    row: int | str
    prediction: Any
    target: Any


def append_result(path: Path, result: CellResult) -> None:
    """Add one line to `path`, creating the file. What a crash left of a last line goes first.

    One process at a time may append to a file. Raises ReportError when the disk is full.
    """
    line = json.dumps(asdict(result), ensure_ascii=False, allow_nan=False).encode()
    try:
        if path.is_file():
            end_last_line(path, _is_result)
        append_line(path, line)
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}; is the disk full?") from error


def read_results(path: Path) -> list[CellResult]:
    """Every result of the file, in its order; without a last line that a crash cut.

    Raises:
        ReportError: there is no such file, or another line, told by its number, is no result.
    """
    results = []
    for number, line, is_last in _lines(path):
        try:
            results.append(_parse(line))
        except ReportError as error:
            if not is_last:
                raise ReportError(f"{path}:{number}: {error}") from None
    return results


def predictions_file(results: Path, result: CellResult) -> Path | None:
    """The file of a result's predictions, beside the file of results that it was read from.

    Raises:
        ReportError: it lies outside that folder, where a stranger's results have no business.
    """
    if result.predictions is None:
        return None
    folder = results.parent.resolve()
    path = (folder / result.predictions).resolve()
    if not path.is_relative_to(folder):
        raise ReportError(f"{results}: predictions: '{result.predictions}' leaves the folder")
    return path


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write a whole file of predictions; the folder is made. ReportError when it cannot be."""
    lines = [json.dumps(vars(each), ensure_ascii=False, allow_nan=False) for each in predictions]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "".join(line + "\n" for line in lines).encode())
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {error.strerror}") from error


def read_predictions(path: Path) -> list[Prediction]:
    """The predictions of one cell, in the order of the split.

    Raises:
        ReportError: there is no such file, or a line is no prediction.
    """
    predictions = []
    names = {field.name for field in fields(Prediction)}
    for number, line, _ in _lines(path):
        record = _json_object(line)
        if record is None or record.keys() != names:
            raise ReportError(f"{path}:{number}: a JSON object with {', '.join(sorted(names))} "
                              f"is expected")  # fmt: skip
        predictions.append(Prediction(**record))
    return predictions


def row_ids(rows: Sequence[int]) -> list[int | str]:
    """The `row` of each example's prediction, from the source rows of all examples of a split."""
    ids: list[int | str] = []
    start = 0
    while start < len(rows):
        end = start + 1
        while end < len(rows) and rows[end] == rows[start]:
            end += 1
        several = [f"{rows[start]}.{number}" for number in range(end - start)]
        ids += several if len(several) > 1 else [rows[start]]
        start = end
    return ids


def _lines(path: Path) -> list[tuple[int, bytes, bool]]:
    """Number, bytes, and whether nothing ends it, of each line that is not empty at the end."""
    try:
        *whole, last = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        raise ReportError(f"{path}: there is no such file; a finetune plan writes it") from None
    lines = [(number, line, False) for number, line in enumerate(whole, start=1)]
    return [*lines, (len(lines) + 1, last, True)] if last else lines


def _json_object(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _parse(line: bytes) -> CellResult:
    record = _json_object(line)
    if record is None:
        raise ReportError("this is no JSON object")
    known = {}
    for each in fields(CellResult):
        if each.name in record:
            known[each.name] = record[each.name]
        elif each.default is MISSING:
            raise ReportError(f"the field '{each.name}' is missing")
    return CellResult(**known)


def _is_result(line: bytes) -> bool:
    try:
        _parse(line)
    except ReportError:
        return False
    return True


_TEXTS = ("arm", "target", "split", "headline", "data_fingerprint", "checkpoint_fingerprint")


def _problem(result: CellResult) -> str | None:
    """What makes the fields unusable, if anything."""
    for name in _TEXTS:
        value: object = getattr(result, name)
        if not isinstance(value, str) or not value:
            return f"'{name}' is {value!r}; allowed: a text"
    for name in ("seed", "num_examples", "steps"):
        if not _is_count(getattr(result, name)):
            return f"'{name}' is {getattr(result, name)!r}; allowed: a whole number from 0"
    if result.shots != ALL and not (_is_count(result.shots) and result.shots):
        return f"'shots' is {result.shots!r}; allowed: a whole number from 1, or '{ALL}'"
    if result.overlap is not None and not _is_count(result.overlap):
        return f"'overlap' is {result.overlap!r}; allowed: a whole number from 0, or null"
    for name in ("commit", "predictions"):
        if not isinstance(getattr(result, name), str | None):
            return f"'{name}' is {getattr(result, name)!r}; allowed: a text or null"
    for name in ("settings", "scores", "versions"):
        if not isinstance(getattr(result, name), Mapping):
            return f"'{name}' is {getattr(result, name)!r}; allowed: a mapping"
    for name, number in {**result.scores, "seconds": result.seconds}.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            return f"'{name}' is {number!r}; allowed: a number"
        if not math.isfinite(number):
            return f"'{name}' is {number!r}; allowed: a finite number"
    if result.headline not in result.scores:
        return f"no score for '{result.headline}'{suggest(result.headline, result.scores)}"
    return None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
