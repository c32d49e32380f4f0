"""What is asked of the Hugging Face hub: the commit of a revision, a split's files, their bytes.

Everything that can go wrong there is told apart here, once. The `datasets` library hides it: when
anything fails it takes the newest version of the dataset from its cache, whatever commit was asked
for. So access is tried first with `huggingface_hub`, whose errors have types, and what `datasets`
then opens must say that it is the commit in question. No code of a dataset's is ever run: from
version 4 on `datasets` cannot, and what needs it is refused with a hint at the Parquet conversion.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from muppet_zoo.errors import MuppetZooError, SourceError, allowed
from muppet_zoo.hub_lock import LockedFile
from muppet_zoo.spec import CONVERSION, Source

ANSWER_WITHIN_S = 30.0
LONGEST_WAIT_S = 60  # a longer one is told instead: nobody watches a program do nothing
MOST_WAITS = 5

_MIRROR = "without the hub, give the rows as files: --mirror DIR"
_log = logging.getLogger(__name__)

T = TypeVar("T")


class HubUnreachableError(SourceError):
    """The hub does not answer, whatever is asked."""


def commit_of(source: Source) -> str:
    """The commit that the source's revision means now; SourceError when the hub does not say."""
    if _while_offline():
        raise SourceError(
            f"{_name(source)}: which commit '{source.revision}' is cannot be asked"
            f"{_while_offline()}; `muppet-zoo lock` records it while there is a network"
        )
    with _asking(source, f"ask for the commit of revision '{source.revision}'"):
        commit = _ask_commit(source, str(source.revision))
    if not commit:
        raise SourceError(f"{_name(source)}: the hub names no commit for '{source.revision}'")
    return commit


def check_reachable(source: Source, commit: str) -> None:
    """Try at once what downloads try for half a minute; nothing where offline is wanted.

    Raises:
        SourceError: the hub does not answer, or has no such dataset or commit.
    """
    if not _while_offline():
        with _asking(source, f"open it at commit {commit}"):
            _ask_commit(source, commit)


def _ask_commit(source: Source, revision: str) -> str | None:
    from huggingface_hub import HfApi

    hub = str(source.hub)
    return _patiently(
        lambda: HfApi().dataset_info(hub, revision=revision, timeout=ANSWER_WITHIN_S).sha
    )


def split_files(source: Source, splits: Iterable[str], commit: str) -> dict[str, list[str]]:
    """The paths of the files of each split at a commit, as `datasets` would read them.

    Raises:
        SourceError: no such split; or it reads what is no file of this dataset at this commit.
    """
    if source.revision == CONVERSION:
        files, start = _converted_files(source, commit), ""
    else:
        files = open_builder(source, commit).config.data_files or {}
        start = f"hf://datasets/{source.hub}@{commit}/"
    found = {}
    for split in sorted(set(splits)):
        if split not in files:
            raise SourceError(f"{_name(source)}: has no split '{split}'{allowed(split, files)}")
        if outside := [url for url in files[split] if not url.startswith(start)]:
            raise SourceError(
                f"{_name(source)}, split '{split}': reads {outside[0]}, which no commit of the "
                f"dataset pins; {_MIRROR}"
            )
        found[split] = sorted(url.removeprefix(start) for url in files[split])
    return found


def _converted_files(source: Source, commit: str) -> dict[str, list[str]]:
    from huggingface_hub.errors import EntryNotFoundError

    config = source.config or "default"
    files: dict[str, list[str]] = {}
    with _asking(source, "list its Parquet conversion"):
        try:
            tree = _tree(source, config, commit)
        except EntryNotFoundError:
            configs = [entry.path for entry in _tree(source, None, commit)]
            raise SourceError(
                f"{_name(source)}: its Parquet conversion has no configuration '{config}'"
                f"{allowed(config, configs)}"
            ) from None
    for path in (PurePosixPath(entry.path) for entry in tree):
        if path.suffix == ".parquet":
            files.setdefault(path.parent.name, []).append(str(path))
    return files


def _tree(source: Source, folder: str | None, commit: str) -> list[Any]:
    """All below a folder, or without one what lies at the top."""
    from huggingface_hub import HfApi

    hub = str(source.hub)
    return _patiently(
        lambda: list(
            HfApi().list_repo_tree(
                hub, folder, recursive=folder is not None, revision=commit, repo_type="dataset"
            )
        )
    )


def file_records(source: Source, paths: Sequence[str], commit: str) -> tuple[LockedFile, ...]:
    """Size and digest of files as the hub states them; nothing is downloaded."""
    from huggingface_hub import HfApi

    with _asking(source, f"ask for the digests of {len(paths)} files"):
        found = _patiently(
            lambda: HfApi().get_paths_info(
                str(source.hub), list(paths), revision=commit, repo_type="dataset"
            )
        )
    records = {entry.path: _record(entry) for entry in found if hasattr(entry, "size")}
    if missing := [path for path in paths if path not in records]:
        raise SourceError(f"{_name(source)}: the hub says nothing of the file {missing[0]}")
    return tuple(records[path] for path in sorted(paths))


def _record(entry: Any) -> LockedFile:
    if entry.lfs:
        return LockedFile(
            path=entry.path, size=entry.size, algorithm="sha256", digest=entry.lfs.sha256
        )
    return LockedFile(path=entry.path, size=entry.size, algorithm="git_blob", digest=entry.blob_id)


def download(source: Source, path: str, commit: str) -> Path:
    """A file at a commit, from the cache or else from the hub; never a part of it."""
    from huggingface_hub import hf_hub_download

    with _asking(source, f"download {path}"):
        return Path(
            _patiently(
                lambda: hf_hub_download(str(source.hub), path, revision=commit, repo_type="dataset")
            )
        )


def is_cached(source: Source, path: str, commit: str) -> bool:
    """Whether `download` of this file needs no network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(str(source.hub), path, revision=commit, repo_type="dataset")
    return isinstance(found, str)


def open_builder(source: Source, commit: str) -> Any:
    """The builder of `datasets` for the source at a commit; from its cache where offline."""
    here = Path(str(source.hub))
    if here.exists():
        raise SourceError(
            f"{_name(source)}: '{source.hub}' is also here, in {Path.cwd()}, and the library "
            f"would read that instead; run this in another folder, or give files with --mirror"
        )
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()  # it warns of cached versions; they are refused below
    _check_access(source, commit)
    with _asking(source, f"open it at commit {commit}"):
        builder = datasets.load_dataset_builder(
            str(source.hub), name=source.config, revision=commit
        )
    if builder.hash != commit:
        raise SourceError(
            f"{_name(source)}: commit {commit} could not be opened{_while_offline()}, and the "
            f"newest in the cache, {builder.hash}, is another; {_MIRROR}"
        )
    return builder


def _check_access(source: Source, commit: str) -> None:
    """Ask for the file that `datasets` reads first: gated datasets answer, but give no files."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    if _while_offline():
        return
    check_reachable(source, commit)
    with _asking(source, f"open it at commit {commit}"):
        try:
            _patiently(
                lambda: hf_hub_download(
                    str(source.hub), "README.md", revision=commit, repo_type="dataset"
                )
            )
        except LocalEntryNotFoundError:
            raise  # the hub was not reached
        except EntryNotFoundError:
            return  # reached, and without a card


# --- patience --------------------------------------------------------------------------------


def _patiently(ask: Callable[[], T]) -> T:
    """Ask again after the wait that the hub demands; its client waits only in some of its calls."""
    for _ in range(MOST_WAITS):
        try:
            return ask()
        except Exception as error:
            wait_s = _retry_after_s(error)
            if wait_s is None or wait_s > LONGEST_WAIT_S:
                raise
        _log.warning("the hub takes no more requests for now; asking again in %d s", wait_s)
        time.sleep(wait_s)
    return ask()


def _retry_after_s(error: Exception) -> int | None:
    """Seconds after which a refused request (status 429) may be sent again, where the hub says."""
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if getattr(response, "status_code", None) == 429:
            wait = str(response.headers.get("Retry-After", "")) if response is not None else ""
            return int(wait) if wait.isdecimal() else None
    return None


# --- what went wrong -------------------------------------------------------------------------


@contextmanager
def _asking(source: Source, tried: str) -> Iterator[None]:
    try:
        yield
    except MuppetZooError:
        raise
    # The libraries raise dozens of types, from their own to the HTTP client's.
    except Exception as error:
        raise hub_error(source, tried, error) from error


def hub_error(source: Source, tried: str, error: Exception) -> SourceError:
    """What went wrong and what to do about it; `tried` completes "cannot …"."""
    from huggingface_hub import constants

    where = f"{_name(source)}: cannot {tried}{_while_offline()}"
    if not _while_offline() and _is_unreachable(error):
        return HubUnreachableError(
            f"{where}: the hub cannot be reached at {constants.ENDPOINT}; HF_HUB_OFFLINE=1 builds "
            f"from the cache alone; {_MIRROR}"
        )
    return SourceError(f"{where}: {_reason(source, error)}")


def _is_unreachable(error: Exception) -> bool:
    """Whether no answer came; the HTTP client's own types change from one version to the next."""
    causes = list(_causes(error))
    answered = any(getattr(cause, "response", None) is not None for cause in causes)
    return not answered and any(
        isinstance(cause, ConnectionError | TimeoutError | socket.gaierror) for cause in causes
    )


def _reason(source: Source, error: Exception) -> str:
    from huggingface_hub import constants, errors

    causes = list(_causes(error))

    def has(*types: type[BaseException]) -> bool:
        return any(isinstance(cause, types) for cause in causes)

    page = f"{constants.ENDPOINT}/datasets/{source.hub}"
    statuses = {getattr(getattr(cause, "response", None), "status_code", None) for cause in causes}
    if any("Dataset scripts are no longer supported" in str(cause) for cause in causes):
        return (
            "it is a loading script, which is code and is never run; read the hub's conversion "
            f"instead, with `revision: {CONVERSION}` in the spec"
        )
    if _while_offline():
        return f"it is not in the cache; unset HF_HUB_OFFLINE to fetch it; {_MIRROR}"
    if has(errors.GatedRepoError):
        return (
            f"the dataset is gated; request access on its page, {page}, then log in with "
            f"`hf auth login` or set HF_TOKEN"
        )
    if has(errors.RevisionNotFoundError):
        return f"no such revision{_near_revisions(source)}; change `revision` in the spec"
    if 429 in statuses:
        wait_s = _retry_after_s(error)
        after = f"in {wait_s} s" if wait_s is not None else "in some minutes"
        return f"too many requests; try again {after}; with `hf auth login` more are allowed"
    if has(errors.RepositoryNotFoundError):
        return (
            f"no such dataset, or a private one; look it up at {page} (names change: correct "
            f"`hub` in the spec); for a private one use `hf auth login` or set HF_TOKEN"
        )
    if statuses & {401, 403}:
        return f"access was refused; log in anew with `hf auth login` or set HF_TOKEN; see {page}"
    if has(errors.EntryNotFoundError) and 404 in statuses:
        return f"the hub has no such file; see {page}; `muppet-zoo lock --update` renews a lock"
    return f"{type(error).__name__}: {_first_words(causes)}; try again; {_MIRROR}"


def _near_revisions(source: Source) -> str:
    """What revisions there are, in words; nothing when the hub does not say that either."""
    from huggingface_hub import HfApi

    try:
        refs = HfApi().list_repo_refs(str(source.hub), repo_type="dataset")
    except Exception:  # only a hint
        return ""
    names = [ref.name for ref in (*refs.branches, *refs.tags)] + [ref.ref for ref in refs.converts]
    return allowed(str(source.revision), names)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and all that it came from; libraries wrap and hide each other's."""
    waiting, seen = [error], set()
    while waiting:
        current = waiting.pop(0)
        if id(current) not in seen:
            seen.add(id(current))
            yield current
            waiting += [e for e in (current.__cause__, current.__context__) if e is not None]


def _first_words(causes: Sequence[BaseException]) -> str:
    """The message of the error, without the token, should a library have put it there."""
    from huggingface_hub import get_token

    text = " ".join(str(causes[0]).split())[:300]
    token = get_token()
    return text.replace(token, "<token>") if token else text


def _while_offline() -> str:
    from huggingface_hub import constants

    return " while HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""


def _name(source: Source) -> str:
    return f"hub dataset {source.hub}{f' ({source.config})' if source.config else ''}"
