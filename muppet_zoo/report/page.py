"""A report as one HTML file that needs nothing else: no network, no font, no library.

Style and script are inside (`page.html`); figures are inline SVG. All text from results
is escaped. The same report and library versions give the same bytes, so a page can be committed and
a change of it means a change of the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from muppet_zoo.file_tools import write_atomically
from muppet_zoo.metrics import load_library
from muppet_zoo.report.compare import Report
from muppet_zoo.report.figures import Drawing, svg_of
from muppet_zoo.report.tables import is_numeric, notes_of, shown, tables_of
from muppet_zoo.results import ReportError


def write_page(
    path: Path, title: str, report: Report, drawings: Sequence[Drawing], notes: Sequence[str] = ()
) -> None:
    """Write the page; `notes` come before those of the tables.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
        ReportError: the file cannot be written.
    """
    environment = load_library("jinja2").Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = shown
    source = resources.files("muppet_zoo.report").joinpath("page.html").read_text("utf-8")
    page = environment.from_string(source).render(
        title=title,
        report=report,
        tables=tables_of(report),
        notes=[*notes, *notes_of(report)],
        figures=[(drawing, svg_of(drawing)) for drawing in drawings],
        is_numeric=is_numeric,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, page.encode())
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {error.strerror}") from None
