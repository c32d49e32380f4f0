"""The page and its figures: complete, escaped, the same bytes again; drawn and sorted by a browser.

The browser is a Chromium on the PATH, or the one that CHROMIUM names; without one those tests are
skipped, and the page is only read as HTML.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from report_runs import line, write_lines, write_study

from muppet_zoo.errors import MissingExtraError
from muppet_zoo.report.cells import read_runs
from muppet_zoo.report.compare import Report, build_report
from muppet_zoo.report.figures import draw, svg_of, write_figures
from muppet_zoo.report.page import write_page
from muppet_zoo.report.published import read_published, shipped_published
from muppet_zoo.report.tables import shown, tables_of
from muppet_zoo.results import ReportError

BROWSER = next(
    (
        found
        for name in (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
        if name and (found := shutil.which(name))
    ),
    None,
)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium; set CHROMIUM to one")
EMPTY_TAGS = {"meta", "link", "br", "hr", "img", "path", "use", "rect", "stop"}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = write_study(tmp_path_factory.mktemp("study"))
    published = read_published(shipped_published())
    return build_report(read_runs([str(folder)]), published=published)


@pytest.fixture(scope="module")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(path, "A study", report, draw(report), ["A note of its own."])
    return path


class Page(HTMLParser):
    """Tags with their attributes, ids, texts of cells; fails where tags are not closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY_TAGS or self.get_starttag_text() is None:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in EMPTY_TAGS:
            return
        assert self._open, tag
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("td", "th"):
            self.cells.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_every_table_is_there_and_can_be_read_aloud(page: Path, report: Report) -> None:
    found = Page(page.read_text("utf-8"))
    tables = tables_of(report)
    assert [table.name for table in tables] == ["averages", "comparisons", "scores", "published"]
    assert len(found.all("table")) == len(found.all("caption")) == len(tables)
    assert len(found.all("th")) == sum(len(t.rows[0]) + len(t.rows) for t in tables)
    assert all(cell["scope"] in ("col", "row") for cell in found.all("th"))
    assert {"0.5917", "–", "not checked", "recalled, unverified"} <= set(found.cells)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {str(link["href"]) for link in found.all("a")}
    assert {target.removeprefix("#") for target in targets} <= set(ids)


def test_every_figure_has_words(page: Path) -> None:
    found = Page(page.read_text("utf-8"))
    images = [attributes for _, attributes in found.tags if attributes.get("role") == "img"]
    assert len(images) == len(found.all("svg")) == len(found.all("figcaption")) == 4
    assert all(len(image["aria-label"] or "") > 40 for image in images)


def test_the_page_needs_nothing_else(page: Path) -> None:
    text = page.read_text("utf-8")
    found = Page(text)
    outside = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", text)
    assert {link for link in outside if not link.startswith(("#", "data:"))} == set()
    assert [script.get("src") for script in found.all("script")] == [None]
    assert "@import" not in text


def test_all_text_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert('$x$')</script>&amp;"
    cells = [line(arm=arm, target=evil, seed=s) for arm in ("base", evil) for s in (0, 1)]
    report = build_report(read_runs([str(write_lines(tmp_path, cells))]))
    write_page(tmp_path / "page.html", evil, report, draw(report), [evil])
    found = Page((tmp_path / "page.html").read_text("utf-8"))
    assert len(found.all("script")) == 1
    assert evil in found.cells


def test_equal_reports_give_equal_bytes_whatever_the_users_settings(
    report: Report, page: Path, tmp_path: Path
) -> None:
    import matplotlib

    again = tmp_path / "again.html"
    with matplotlib.rc_context({"lines.linewidth": 9, "svg.fonttype": "path", "font.size": 30}):
        write_page(again, "A study", report, draw(report), ["A note of its own."])
    assert again.read_bytes() == page.read_bytes()


def test_figures_are_written_as_svg_and_png(tmp_path: Path) -> None:
    report = few(tmp_path, [line(seed=seed) for seed in (0, 1)])
    write_figures(draw(report), tmp_path / "deep/figures")
    names = sorted(path.name for path in (tmp_path / "deep/figures").iterdir())
    assert names == ["targets_validation.png", "targets_validation.svg"]
    assert (tmp_path / "deep/figures" / names[0]).read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReportError, match=r"file/figures: cannot be written: Not a directory"):
        write_figures([], tmp_path / "file/figures")


def few(folder: Path, cells: list[dict[str, Any]]) -> Report:
    return build_report(read_runs([str(write_lines(folder, cells))]))


def test_small_numbers_are_not_shown_as_nothing() -> None:
    assert [shown(value) for value in (0.00004, 0.0, 0.5, None, "all")] == [
        "4.0e-05",
        "0.0000",
        "0.5000",
        "–",
        "all",
    ]


def test_only_figures_with_something_to_show_are_drawn(report: Report, tmp_path: Path) -> None:
    assert [drawing.name for drawing in draw(report)] == [
        f"{name}_validation" for name in ("targets", "sample_efficiency", "scale", "matrix")
    ]
    assert [drawing.name for drawing in draw(few(tmp_path, [line()]))] == ["targets_validation"]


def test_a_panel_without_a_target_is_empty(tmp_path: Path) -> None:
    cells = [line(target=f"t{i}", shots=shots) for i in range(7) for shots in (16, "all")]
    [curves] = [d for d in draw(few(tmp_path, cells)) if d.name.startswith("sample_efficiency")]
    assert [axes.axison for axes in curves.figure.axes] == [True] * 7 + [False] * 2


def test_one_seed_many_arms_and_foreign_names_can_be_drawn(tmp_path: Path) -> None:
    cells = [
        line(arm=f"任务 $x$ {i}", target=target, shots=shots)
        for i in range(11)
        for target in ("subj", "题")
        for shots in (16, "all")
    ]
    texts = [svg_of(drawing) for drawing in draw(few(tmp_path, cells))]
    assert len(texts) == 3
    assert all("任务 $x$ 10" in text for text in texts)


def test_a_missing_library_says_how_to_install_it(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.style", None)
    with pytest.raises(MissingExtraError, match=r"'matplotlib'.*muppet-zoo\[train\]"):
        draw(report)


# --- in a browser ----------------------------------------------------------------------------

_WATCH = """<script>
window.problems = [];
window.addEventListener("error", (event) => window.problems.push(event.message));
console.error = (...words) => window.problems.push(words.join(" "));
</script>"""
_ACT = """<script>
const table = document.querySelector("#scores table");
const column = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === NAME);
const read = () => [...table.tBodies[0].rows].map((row) => row.cells[column].textContent);
const header = table.tHead.rows[0].cells[column];
const steps = [read()];
for (let click = 0; click < 2; click++) {
  header.querySelector("button").click();
  steps.push([header.getAttribute("aria-sort"), read()]);
}
const boxes = [...document.querySelectorAll("figure svg")].map((e) => e.getBoundingClientRect());
const seen = {
  problems: window.problems, steps,
  figures: boxes.map((box) => Math.min(box.width, box.height)),
  page: getComputedStyle(document.body).backgroundColor,
};
document.body.innerHTML = "";
document.body.append(Object.assign(document.createElement("pre"), {
  id: "seen", textContent: btoa(encodeURIComponent(JSON.stringify(seen))),
}));
</script>"""

Visit = Callable[..., dict[str, Any]]


@pytest.fixture
def visit(page: Path, tmp_path: Path) -> Visit:
    """Opens the page offline, sorts the table of scores twice by a column, and says what it saw."""

    def go(column: str, *options: str) -> dict[str, Any]:
        assert BROWSER is not None
        text = page.read_text("utf-8").replace("<head>", f"<head>{_WATCH}")
        text = text.replace("</body>", _ACT.replace("NAME", json.dumps(column)) + "</body>")
        (tmp_path / "visited.html").write_text(text, encoding="utf-8")
        done = subprocess.run(
            [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND",
             "--enable-logging=stderr", *options, "--dump-dom",
             (tmp_path / "visited.html").as_uri()],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        assert "CONSOLE" not in done.stderr
        found = re.search(r'<pre id="seen">([^<]+)</pre>', done.stdout)
        assert found is not None, done.stdout[-2000:]
        seen: dict[str, Any] = json.loads(unquote(base64.b64decode(found[1]).decode()))
        return seen

    return go


@needs_browser
def test_a_browser_draws_the_page_without_a_complaint_and_sorts_numbers(visit: Visit) -> None:
    seen = visit("mean")
    assert seen["problems"] == []
    assert len(seen["figures"]) == 4
    assert min(seen["figures"]) > 100
    before, (up, ascending), (down, descending) = seen["steps"]
    assert (up, down) == ("ascending", "descending")
    assert ascending == sorted(before, key=float) != before
    assert descending == sorted(before, key=float, reverse=True)
    assert seen["page"] == "rgb(255, 255, 255)"


@needs_browser
def test_a_browser_sorts_shots_as_numbers_with_all_at_the_end_and_turns_dark(visit: Visit) -> None:
    seen = visit("shots", "--force-dark-mode", "--blink-settings=preferredColorScheme=0")
    assert seen["problems"] == []
    _, (_, ascending), _ = seen["steps"]
    assert list(dict.fromkeys(ascending)) == ["16", "64", "all"]
    assert seen["page"] == "rgb(23, 23, 27)"
