"""Specs + tokenizer → shards on disk, for many tasks at once.

Every (task, role) pair is built on its own, in a folder and under a lock of its own, and is
finished or not, whatever becomes of the others: an error in one task costs none of the work on the
rest, and all errors are told at the end. Pairs run on threads, since the tokenizer leaves Python's
lock while it works; what is written does not depend on how many.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from muppet_zoo.build_split import Phase, SplitPlan, StoppedError, build_split
from muppet_zoo.errors import MuppetZooError, ShardError, UsageError
from muppet_zoo.fingerprints import components_of, fingerprint_of, what_changed
from muppet_zoo.hub.lock import Lock
from muppet_zoo.licenses import check_policy
from muppet_zoo.manifests import MANIFEST_NAME, read_manifest
from muppet_zoo.sources import DigestCache, MissingSplitError, open_rows

if TYPE_CHECKING:
    from muppet_zoo.encode import TokenizerSource
    from muppet_zoo.manifests import Manifest
    from muppet_zoo.overlap.guard import Guard, Protection
    from muppet_zoo.spec import TaskSpec

DEFAULT_MAX_TOKENS = 128
DEFAULT_JOBS = 3  # of two, both often wait for Python while the tokenizer's threads have no work
_DIGESTS_NAME = ".digests.json"

Status = Literal["built", "reused", "resumed", "absent", "failed"]


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How to build. `jobs` splits are built at a time; `limit` rows are read of each.

    verify: also read what is built already, and make anew what was damaged.
    license_policy: what all licences must permit, of `licenses.POLICIES`.
    locks: by task, what its rows on the hub are; a task without one is read as the hub is now.
    overlap: the evaluation rows that training rows are compared with, and what follows.
    """

    mirror: Path | None = None
    max_tokens: int = DEFAULT_MAX_TOKENS
    limit: int | None = None
    jobs: int = DEFAULT_JOBS
    verify: bool = False
    license_policy: str = "any"
    locks: Mapping[str, Lock] = field(default_factory=dict)
    overlap: Protection | None = None


@dataclass(frozen=True, kw_only=True)
class SplitOutcome:
    """What became of one role of one task. `absent`: the mirror has no such split."""

    task: str
    role: str
    status: Status
    why: str
    seconds: float = 0.0
    manifest: Manifest | None = None
    error: MuppetZooError | None = None

    @property
    def num_overlapping_rows(self) -> int | None:
        """Training rows that overlap with evaluation rows; None where none were compared."""
        if self.manifest is None or "overlap" not in self.manifest.components:
            return None
        return self.manifest.num_overlapping_rows

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`; counts are null where nothing was built, or compared."""
        manifest = self.manifest
        counts = (
            "num_examples", "num_records", "num_sequences", "num_tokens", "num_truncated",
            "num_targets_cut", "num_bad_rows", "fingerprint",
        )  # fmt: skip
        return {
            "task": self.task,
            "split": self.role,
            "status": self.status,
            "why": self.why,
            "seconds": round(self.seconds, 3),
            **{name: manifest and getattr(manifest, name) for name in counts},
            "num_overlapping_rows": self.num_overlapping_rows,
        }


@dataclass(frozen=True, kw_only=True)
class BuildProgress:
    """How far one split is. Counts are source rows.

    num_rows: encoded by this run; row: how far into the split; total_rows: an estimate, or None.
    outcome: set once, when the split is done.
    """

    task: str
    role: str
    phase: Phase | Literal["done"]
    num_rows: int = 0
    row: int = 0
    total_rows: float | None = None
    outcome: SplitOutcome | None = None


OnProgress = Callable[[BuildProgress], None]


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """The outcomes in the order of the tasks, and of the roles in each spec."""

    outcomes: tuple[SplitOutcome, ...]

    @property
    def errors(self) -> tuple[MuppetZooError, ...]:
        """What failed, each message once."""
        errors = (outcome.error for outcome in self.outcomes if outcome.error is not None)
        return tuple({str(error): error for error in errors}.values())

    def count(self, *statuses: Status) -> int:
        """Number of splits with one of these statuses."""
        return sum(outcome.status in statuses for outcome in self.outcomes)


def build(
    tasks: Iterable[TaskSpec],
    *,
    tokenizer: TokenizerSource,
    out: Path,
    options: BuildOptions | None = None,
    on_progress: OnProgress | None = None,
) -> BuildReport:
    """Bring every role of every task up to date under `out`.

    Failures of single splits are in the report; the others are finished first. `on_progress` is
    called from one thread at a time.

    Raises:
        UsageError: the request as a whole cannot be carried out.
        LicenseError: a task's licence does not permit what the policy asks; nothing was built.
        KeyboardInterrupt: after the splits at work stopped; finished shards stay.
    """
    options = options or BuildOptions()
    unique = {spec.name: spec for spec in tasks}
    check_policy([(spec.name, spec.license) for spec in unique.values()], options.license_policy)
    _check_request(out, options)
    digests = DigestCache(out / _DIGESTS_NAME)
    worker = _Worker(tokenizer, out, options, digests, on_progress or (lambda progress: None))
    pairs = [(spec, role) for spec in unique.values() for role in spec.source.splits]
    with _rare_collections():
        outcomes = _run(worker, pairs, options.jobs)
    return BuildReport(outcomes=tuple(_with_empty_tasks_failed(outcomes)))


def _check_request(out: Path, options: BuildOptions) -> None:
    if options.mirror is not None and not options.mirror.is_dir():
        raise UsageError(f"--mirror {options.mirror}: no such folder")
    if out.is_file():
        raise UsageError(f"--out {out}: is a file; name a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be made: {error.strerror or error}") from None
    for name, value in (("limit", options.limit), ("jobs", options.jobs)):
        if value is not None and value < 1:
            raise UsageError(f"--{name} {value}: at least 1 is needed")


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let Python look for unused cycles a hundredth as often.

    Rows, examples and encodings make none, but there are so many of them that the search took a
    tenth of a build's time. Reference counts free them at once as ever.
    """
    before = gc.get_threshold()
    gc.set_threshold(100 * before[0], *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _run(worker: _Worker, pairs: Sequence[tuple[TaskSpec, str]], jobs: int) -> list[SplitOutcome]:
    executor = ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="build")
    try:
        futures = [executor.submit(worker.build, spec, role) for spec, role in pairs]
        wait(futures, return_when=FIRST_EXCEPTION)
        failed = [future for future in futures if future.done() and future.exception()]
        if failed:
            failed[0].result()  # a wrong request or a bug: neither is one split's own matter
        return [future.result() for future in futures]
    finally:
        # On the way out by Ctrl-C or an error: what runs stops at its next chunk.
        worker.stop.set()
        executor.shutdown(wait=True, cancel_futures=True)


def _with_empty_tasks_failed(outcomes: Sequence[SplitOutcome]) -> Iterable[SplitOutcome]:
    """A mirror may lack splits, but a task of which it has none is a mistake."""
    of_task = defaultdict(list)
    for outcome in outcomes:
        of_task[outcome.task].append(outcome)
    for outcome in outcomes:
        if outcome.status != "absent":
            yield outcome
        elif all(other.status == "absent" for other in of_task[outcome.task]):
            yield replace(outcome, status="failed")
        else:
            yield replace(outcome, error=None)


def _guard(options: BuildOptions, digests: DigestCache) -> Guard | None:
    from muppet_zoo.overlap.compare import Places
    from muppet_zoo.overlap.guard import Guard

    if options.overlap is None:
        return None
    places = Places(mirror=options.mirror, locks=options.locks, digests=digests)
    return Guard(options.overlap, places)


class _Worker:
    """Builds one split after another; shared by the threads."""

    def __init__(
        self,
        tokenizer: TokenizerSource,
        out: Path,
        options: BuildOptions,
        digests: DigestCache,
        on_progress: OnProgress,
    ) -> None:
        self.stop = threading.Event()
        self._tokenizer = tokenizer
        self._out = out
        self._options = options
        self._digests = digests
        self._on_progress = on_progress
        self._progress_lock = threading.Lock()
        self._guard = _guard(options, digests)

    def build(self, spec: TaskSpec, role: str) -> SplitOutcome:
        """Build one split; its own failures become outcomes."""
        start = time.monotonic()
        try:
            outcome = self._outcome(spec, role)
        except UsageError:
            raise
        except MuppetZooError as error:
            outcome = SplitOutcome(
                task=spec.name, role=role, status="failed", why=str(error), error=error
            )
        outcome = replace(outcome, seconds=time.monotonic() - start)
        self._tell(BuildProgress(task=spec.name, role=role, phase="done", outcome=outcome))
        return outcome

    def _outcome(self, spec: TaskSpec, role: str) -> SplitOutcome:
        if self.stop.is_set():
            raise StoppedError
        try:
            plan = self._plan(spec, role)
        except MissingSplitError as error:
            # Evaluation splits are optional in a mirror; a task without training rows is a mistake.
            status: Status = "failed" if role.startswith("train") else "absent"
            why = f"not in the mirror{self._check_left_over(spec, role)}"
            return SplitOutcome(task=spec.name, role=role, status=status, why=why, error=error)

        def report(phase: Phase, num_rows: int, row: int) -> None:
            total = plan.source.estimated_rows(row)
            self._tell(
                BuildProgress(
                    task=spec.name, role=role, phase=phase,
                    num_rows=num_rows, row=row, total_rows=total,
                )
            )  # fmt: skip

        result = build_split(plan, report=report, stop=self.stop)
        return SplitOutcome(
            task=spec.name,
            role=role,
            status=result.status,
            why=result.why,
            manifest=result.manifest,
        )

    def _plan(self, spec: TaskSpec, role: str) -> SplitPlan:
        options = self._options
        source = open_rows(
            spec,
            role,
            mirror=options.mirror,
            limit=options.limit,
            digests=self._digests,
            lock=options.locks.get(spec.name),
        )
        components = self._components(spec, role, source.digest())
        return SplitPlan(
            spec=spec,
            role=role,
            folder=self._out / spec.name / role,
            source=source,
            tokenizer=self._tokenizer,
            max_tokens=options.max_tokens,
            components=components,
            fingerprint=fingerprint_of(role, components),
            guard=self._guard_of(role),
            verify=options.verify,
        )

    def _components(self, spec: TaskSpec, role: str, source: str) -> dict[str, str]:
        options = {"max_tokens": self._options.max_tokens, "limit": self._options.limit}
        components = components_of(
            spec, role, source=source, tokenizer=self._tokenizer.digest, options=options
        )
        guard = self._guard_of(role)
        return components | ({"overlap": guard.component()} if guard is not None else {})

    def _guard_of(self, role: str) -> Guard | None:
        return self._guard if role.startswith("train") else None

    def _check_left_over(self, spec: TaskSpec, role: str) -> str:
        """Of what an earlier build made of a split that is gone, remove what no longer fits."""
        folder = self._out / spec.name / role
        try:
            manifest = read_manifest(folder)
            if manifest is None:
                return ""
            source = manifest.components.get("source", "")
            changed = what_changed(manifest, self._components(spec, role, source))
        except ShardError:
            changed = "its manifest was damaged"
        if not changed:
            return "; the one that was built before is kept"
        try:
            (folder / MANIFEST_NAME).unlink(missing_ok=True)
        except OSError as error:
            raise ShardError(f"{folder}: cannot be written: {error.strerror or error}") from error
        return f"; the one that was built before no longer fits: {changed}"

    def _tell(self, progress: BuildProgress) -> None:
        with self._progress_lock:
            self._on_progress(progress)
