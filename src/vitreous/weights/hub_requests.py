"""Requests to the Hub with short timeouts; every refusal becomes one line, with the remedy."""

import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

from vitreous.errors import CheckpointError, DownloadFailed, StorageError, VitreousError
from vitreous.storage.atomic import FULL

CONNECT = 4.0
"""Seconds to wait for a connection, so that users without a network learn it at once."""
UNWRITABLE = (*FULL, errno.EROFS, errno.EACCES, errno.EPERM)
TOKEN = "HF_TOKEN=..., or `hf auth login`"


@runtime_checkable
class Listener(Protocol):
    """Receives a download's progress: any reporter, as for training, or `Unheard`."""

    def message(self, text: str) -> None:
        """Show a sentence."""

    def phase(self, name: str) -> None:
        """Show what the program is waiting for."""

    def progress(self, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Show how much is done out of how much."""


class Unheard:
    """A Listener that shows nothing."""

    def message(self, text: str) -> None:
        """Ignore it."""

    def phase(self, name: str) -> None:
        """Ignore it."""

    def progress(self, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Ignore it."""


class Unreachable(CheckpointError):
    """A repository is available neither on the Hub nor in the cache."""


class Missing(CheckpointError):
    """There is no such repository, or none that this user may see."""


@dataclass(frozen=True)
class Remote:
    """The Hub's description of a repository."""

    repository: str
    commit: str
    """40 hexadecimal digits."""
    files: dict[str, int]
    """Names at its top level, and their bytes (0 if the Hub doesn't say)."""
    licence: str = ""


def ask_hub(repository: str, revision: str | None) -> Remote:
    """Ask the Hub for a repository's commit, files and licence.

    Raises:
        Unreachable: no network, none allowed (HF_HUB_OFFLINE), or no answer within seconds.
        CheckpointError: no such repository or revision, or no access.
        DownloadFailed: the Hub can't answer now.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError

    with translate_errors(repository, revision):
        try:
            info = HfApi().model_info(repository, revision=revision, timeout=timeouts(), files_metadata=True)
            files = {one.rfilename: one.size or 0 for one in info.siblings or () if "/" not in one.rfilename}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, (HFValidationError, HTTPError)):
                raise
            raise explain_stranger(error) from error
        if not isinstance(info.sha, str):
            raise explain_stranger(KeyError("sha"))
        card = info.card_data
        return Remote(repository, info.sha, files, str(card.get("license") or "") if card else "")


def timeouts() -> tuple[float, float, float, float]:
    """Return the timeouts in seconds: for connecting, reading, writing, and a free connection.

    HF_HUB_DOWNLOAD_TIMEOUT sets how long to wait for a silent server.
    """
    from huggingface_hub import constants

    silence = float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
    return CONNECT, silence, silence, silence


def endpoint() -> str:
    """Return the Hub's address; raises CheckpointError for an invalid one."""
    check_endpoint()
    from huggingface_hub import constants

    if not re.match(r"https?://[^/]", constants.ENDPOINT):
        raise refuse_endpoint(constants.ENDPOINT)
    return constants.ENDPOINT


def check_endpoint() -> None:
    """Raise CheckpointError for a Hub address with which huggingface_hub can't even be imported."""
    named = os.environ.get("HF_ENDPOINT", "")
    try:
        _ = urlsplit(named).port
    except ValueError as error:  # its port is not a number, or a bracket is open
        raise refuse_endpoint(named) from error


def refuse_endpoint(named: str) -> CheckpointError:
    """Return the error for a wrong address of the Hub."""
    return CheckpointError(f"HF_ENDPOINT is {named!r}; it must be an address, such as https://hf-mirror.com")


@contextmanager
def translate_errors(repository: str, revision: str | None = None) -> Iterator[None]:
    """Turn any error of huggingface_hub into one line with the remedy."""
    from huggingface_hub.errors import HFValidationError, HTTPError

    endpoint()
    try:
        with silence_library():
            yield
    except (VitreousError, BrokenPipeError):  # the second is from a reader of the output
        raise
    except HFValidationError as error:
        raise CheckpointError(f"there is no {repository!r} here, and it can't be a name on the Hub") from error
    except (HTTPError, OSError) as error:
        raise explain(error, repository, revision) from error
    except RuntimeError as error:  # from an upload
        if not isinstance(error.__cause__, (HTTPError, OSError)):
            raise
        raise explain(error.__cause__, repository, revision) from error


@contextmanager
def silence_library() -> Iterator[None]:
    """Silence huggingface_hub's log messages and progress bars; vitreous shows its own."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        logging,
    )

    level, hidden = logging.get_verbosity(), are_progress_bars_disabled()
    logging.set_verbosity(logging.CRITICAL)
    if not hidden:
        disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if not hidden:
            enable_progress_bars()


def explain(error: Exception, repository: str, revision: str | None) -> VitreousError:
    """Explain an error of huggingface_hub about a repository."""
    from huggingface_hub.errors import (
        FileMetadataError,
        GatedRepoError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    response = getattr(error, "response", None)
    status = response.status_code if response is not None else None
    if isinstance(error, OfflineModeIsEnabled):
        return Unreachable(
            f"there is no {repository!r} here, nor in the cache, and the Hub can't be reached for it, since HF_HUB_OFFLINE is set; unset it, or check the path"
        )
    if isinstance(error, FileMetadataError):
        return explain_stranger(error)
    if isinstance(error, GatedRepoError):
        return explain_gate(repository)
    if isinstance(error, RevisionNotFoundError):
        return CheckpointError(f"the Hub's {repository} has no revision {revision!r}; leave it out for the newest")
    if status is not None:
        return explain_status(status, dict(response.headers), repository)
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return StorageError(
            f"{repository} can't be kept in the cache: {error.strerror} ({error.filename or 'HF_HOME'}); make room, or set HF_HOME to "
            "another folder"
        )
    reason = (str(error).splitlines() or [""])[0][:100] or type(error).__name__
    if "Timeout" in type(error).__name__:
        reason = "no answer in time"
    return Unreachable(
        f"there is no {repository!r} here, and the Hub can't be reached for it at {endpoint()} ({reason}), nor is it in the cache; check the "
        "path, the network, or set HF_ENDPOINT to a mirror"
    )


def explain_stranger(error: Exception) -> DownloadFailed:
    """Explain that the answer doesn't come from a Hub."""
    found = f"{type(error).__name__}: {str(error)[:80]}"
    return DownloadFailed(f"the server at {endpoint()} is not a Hub ({found}); check HF_ENDPOINT, or the proxy")


def explain_gate(repository: str) -> CheckpointError:
    """Explain how to open a gated repository: accept its licence, and give that account's token."""
    from huggingface_hub import get_token

    page = f"{endpoint()}/{repository}"
    if get_token():
        return CheckpointError(
            f"{repository} is gated, and your token's account has no access: accept its licence at {page}, and try again once it is granted"
        )
    return CheckpointError(
        f"{repository} is gated: accept its licence at {page}, then give that account's token ({TOKEN})"
    )


def explain_status(status: int, headers: dict[str, str], repository: str) -> VitreousError:
    """Explain an HTTP status for a repository."""
    from huggingface_hub import get_token

    refused = "invalid" in headers.get("x-error-message", "").lower()
    if status == 401 and get_token() and refused:
        return CheckpointError(
            f"the Hub refuses your token for {repository}; give another ({TOKEN}), or unset HF_TOKEN"
        )
    if status in (401, 404):
        private = "" if get_token() else f"; if it is private, give a token ({TOKEN})"
        return Missing(
            f"there is no {repository!r} here, and no public repository of that name at {endpoint()}{private}"
        )
    if status == 403:
        return CheckpointError(
            f"your token may not do this with {repository} (403); give one with that permission ({TOKEN})"
        )
    if status == 429:
        wait = headers.get("retry-after", "")
        wait = f"{wait} s" if wait.isdigit() else "some minutes"
        return DownloadFailed(
            f"the Hub limits the number of requests (429, for {repository}); try again in {wait}, or give a token "
            f"({TOKEN}), which allows more"
        )
    return DownloadFailed(f"the Hub answers {status} for {repository}; try again later, or set HF_ENDPOINT to a mirror")


def choose_files(names: Sequence[str]) -> list[str]:
    """Return the needed files of a repository, the configurations first; empty if it holds no supported weights.

    If the same weights come in several forms, safetensors are preferred, then npz, then pickles, as when a folder is opened.
    """
    kept = [name for name in CONFIGURATIONS if name in names]
    for patterns in WEIGHTS:
        found = sorted(name for name in names if any(re.fullmatch(pattern, name) for pattern in patterns))
        if found:
            return [*kept, *found]
    return []


CONFIGURATIONS = ("config.json", "open_clip_config.json", "preprocessor_config.json")
WEIGHTS = (
    (r"model\.safetensors",),
    (r"model\.safetensors\.index\.json", r"model-\d+-of-\d+\.safetensors"),
    (r"open_clip_model\.safetensors",),
    (r"model.*\.safetensors",),
    (r".+\.npz",),
    (r"pytorch_model\.bin",),
    (r"pytorch_model\.bin\.index\.json", r"pytorch_model-\d+-of-\d+\.bin"),
    (r"open_clip_pytorch_model\.bin",),
)
"""Forms of weights in the order of preference (`weights/files.py`)."""


def is_whole(folder: Path) -> bool:
    """Return whether a folder of the cache has everything needed to open it: a configuration with weights, all
    shards, or npz."""
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    chosen = choose_files(names)
    shards = [re.search(r"-of-(\d+)\.", name) for name in chosen]
    counted = [int(match[1]) for match in shards if match]
    configured = any(name in CONFIGURATIONS for name in chosen) or any(name.endswith(".npz") for name in chosen)
    return configured and all(count == len(counted) for count in counted)
