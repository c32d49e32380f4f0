"""What is asked of the Hugging Face hub: the commit of a revision, a split's files, their bytes.

When anything fails, the `datasets` library takes the newest version of the dataset from its cache,
whatever commit was asked for. So access is tried first with `huggingface_hub`, whose errors have
types, and what `datasets` then opens must say that it is the commit in question. No code of a
dataset's is ever run: from version 4 on `datasets` cannot, and what needs it is refused with a hint
at the Parquet conversion.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from muppet_zoo.errors import SourceError, allowed
from muppet_zoo.hub.errors import MIRROR, asking, name_of, patiently, while_offline
from muppet_zoo.hub.lock import LockedFile
from muppet_zoo.spec import CONVERSION, Source

ANSWER_WITHIN_S = 30.0


def commit_of(source: Source) -> str:
    """The commit that the source's revision means now; SourceError when the hub does not say."""
    if while_offline():
        raise SourceError(
            f"{name_of(source)}: which commit '{source.revision}' is cannot be asked"
            f"{while_offline()}; `muppet-zoo lock` records it while there is a network"
        )
    with asking(source, f"ask for the commit of revision '{source.revision}'"):
        commit = _ask_commit(source, str(source.revision))
    if not commit:
        raise SourceError(f"{name_of(source)}: the hub names no commit for '{source.revision}'")
    return commit


def check_reachable(source: Source, commit: str) -> None:
    """Try at once what downloads try for half a minute; nothing where offline is wanted.

    Raises:
        SourceError: the hub does not answer, or has no such dataset or commit.
    """
    if not while_offline():
        with asking(source, f"open it at commit {commit}"):
            _ask_commit(source, commit)


def _ask_commit(source: Source, revision: str) -> str | None:
    from huggingface_hub import HfApi

    hub = str(source.hub)
    return patiently(
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
            raise SourceError(f"{name_of(source)}: has no split '{split}'{allowed(split, files)}")
        if outside := [url for url in files[split] if not url.startswith(start)]:
            raise SourceError(
                f"{name_of(source)}, split '{split}': reads {outside[0]}, which no commit of the "
                f"dataset pins; {MIRROR}"
            )
        found[split] = sorted(url.removeprefix(start) for url in files[split])
    return found


def _converted_files(source: Source, commit: str) -> dict[str, list[str]]:
    from huggingface_hub.errors import EntryNotFoundError

    config = source.config or "default"
    files: dict[str, list[str]] = {}
    with asking(source, "list its Parquet conversion"):
        try:
            tree = _tree(source, config, commit)
        except EntryNotFoundError:
            configs = [entry.path for entry in _tree(source, None, commit)]
            raise SourceError(
                f"{name_of(source)}: its Parquet conversion has no configuration '{config}'"
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
    return patiently(
        lambda: list(
            HfApi().list_repo_tree(
                hub, folder, recursive=folder is not None, revision=commit, repo_type="dataset"
            )
        )
    )


def file_records(source: Source, paths: Sequence[str], commit: str) -> tuple[LockedFile, ...]:
    """Size and digest of files as the hub states them; nothing is downloaded."""
    from huggingface_hub import HfApi

    with asking(source, f"ask for the digests of {len(paths)} files"):
        found = patiently(
            lambda: HfApi().get_paths_info(
                str(source.hub), list(paths), revision=commit, repo_type="dataset"
            )
        )
    records = {entry.path: _record(entry) for entry in found if hasattr(entry, "size")}
    if missing := [path for path in paths if path not in records]:
        raise SourceError(f"{name_of(source)}: the hub says nothing of the file {missing[0]}")
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

    with asking(source, f"download {path}"):
        return Path(
            patiently(
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
            f"{name_of(source)}: '{source.hub}' is also here, in {Path.cwd()}, and the library "
            f"would read that instead; run this in another folder, or give files with --mirror"
        )
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()  # it warns of cached versions; they are refused below
    _check_access(source, commit)
    with asking(source, f"open it at commit {commit}"):
        builder = datasets.load_dataset_builder(
            str(source.hub), name=source.config, revision=commit
        )
    if builder.hash != commit:
        raise SourceError(
            f"{name_of(source)}: commit {commit} could not be opened{while_offline()}, and the "
            f"newest in the cache, {builder.hash}, is another; {MIRROR}"
        )
    return builder


def _check_access(source: Source, commit: str) -> None:
    """Ask for the file that `datasets` reads first: gated datasets answer, but give no files."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    if while_offline():
        return
    check_reachable(source, commit)
    with asking(source, f"open it at commit {commit}"):
        try:
            patiently(
                lambda: hf_hub_download(
                    str(source.hub), "README.md", revision=commit, repo_type="dataset"
                )
            )
        except LocalEntryNotFoundError:
            raise  # the hub was not reached
        except EntryNotFoundError:
            return  # reached, and without a card
