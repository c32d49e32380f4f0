"""What goes wrong between here and the hub: what is waited for, and what is said and advised.

The libraries raise dozens of types, from their own to the HTTP client's, wrapped in each other. The
type that says what to do is looked for in the whole chain, in one place.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from muppet_zoo.errors import MuppetZooError, SourceError, allowed
from muppet_zoo.spec import CONVERSION, Source

LONGEST_WAIT_S = 60  # a longer one is told instead: nobody watches a program do nothing
MOST_WAITS = 5
MIRROR = "without the hub, give the rows as files: --mirror DIR"

_log = logging.getLogger(__name__)

T = TypeVar("T")


class HubUnreachableError(SourceError):
    """The hub does not answer, whatever is asked."""


# --- patience --------------------------------------------------------------------------------


def patiently(ask: Callable[[], T]) -> T:
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
def asking(source: Source, tried: str) -> Iterator[None]:
    """Make a SourceError of what the libraries raise inside; `tried` completes "cannot …"."""
    try:
        yield
    except MuppetZooError:
        raise
    except Exception as error:  # of dozens of types
        raise _error(source, tried, error) from error


def _error(source: Source, tried: str, error: Exception) -> SourceError:
    """What went wrong and what to do about it; `tried` completes "cannot …"."""
    from huggingface_hub import constants

    where = f"{name_of(source)}: cannot {tried}{while_offline()}"
    if not while_offline() and _is_unreachable(error):
        return HubUnreachableError(
            f"{where}: the hub cannot be reached at {constants.ENDPOINT}; HF_HUB_OFFLINE=1 builds "
            f"from the cache alone; {MIRROR}"
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
    if while_offline():
        return f"it is not in the cache; unset HF_HUB_OFFLINE to fetch it; {MIRROR}"
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
    return f"{type(error).__name__}: {_first_words(causes)}; try again; {MIRROR}"


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


def while_offline() -> str:
    """Said where it explains a failure; empty where the network may be used."""
    from huggingface_hub import constants

    return " while HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""


def name_of(source: Source) -> str:
    """The dataset in words, for messages."""
    return f"hub dataset {source.hub}{f' ({source.config})' if source.config else ''}"
