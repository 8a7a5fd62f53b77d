"""Weights by their name on the Hugging Face Hub: downloaded once, then used from the cache, even offline."""

import math
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vitreous.errors import CheckpointError, StorageError, VitreousError
from vitreous.storage.atomic import write_atomically
from vitreous.storage.limits import format_bytes
from vitreous.storage.presence import path_exists
from vitreous.weights.hub_requests import (
    Listener,
    Remote,
    Unheard,
    Unreachable,
    ask_hub,
    check_endpoint,
    choose_files,
    endpoint,
    is_whole,
)
from vitreous.weights.recommended import find_recommended, find_repository
from vitreous.weights.transfer import fetch_file

NAME = re.compile(r"(hf-hub:|hf:)?(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit, in the cache."""

    folder: Path
    repository: str
    commit: str

    @property
    def pinned_name(self) -> str:
        """The name that always means this commit: owner/name@commit."""
        return f"{self.repository}@{self.commit}"


def is_repository(text: str) -> bool:
    """Return whether a text could name a repository, such as "timm/vit_base_patch16_224.augreg_in21k", "dinov2-s" or
    timm's names.

    A path below an existing folder, such as runs/demo, is a mistyped path.
    """
    parsed = parse_name(text)
    if parsed is None or path_exists(text):
        return False
    return "/" not in text.partition("@")[0] or not path_exists(text.split("/")[0])


def parse_name(text: str) -> tuple[str, str | None] | None:
    """Return the repository and revision (None: the newest) that a text names; None if it can't name one."""
    name, at, revision = text.partition("@")
    match = NAME.fullmatch(f"{find_repository(name) or name}{at}{revision}")
    return (match["repo"], match["revision"]) if match else None


def fetch(text: str, listener: Listener | None = None, *, prefer_cache: bool = False) -> Snapshot:
    """Return the needed files of a repository, in the Hub's own cache; missing ones are downloaded.

    Args:
        text: owner/name, a short name or timm's, with @revision for a particular one.
        listener: receives messages and progress; None: nobody.
        prefer_cache: use the cached files, if they are complete, without asking for newer ones. A commit is always
            treated this way.

    Raises:
        Unreachable: neither network nor cache has it. CheckpointError: no such repository or revision, no access, no
            weights.
        DownloadFailed: the Hub can't answer now, or the download broke off. StorageError: the cache can't be written.
    """
    listener, parsed = listener or Unheard(), parse_name(text)
    if parsed is None:
        raise CheckpointError(f"{text!r} can't be a repository on the Hub; give owner/name, or owner/name@revision")
    repository, revision = parsed
    check_endpoint()
    cached = find_cached(repository, revision)
    if cached and (prefer_cache or COMMIT.fullmatch(revision or "")) and is_whole(cached.folder):
        return cached
    try:
        remote = ask_hub(repository, revision)
    except VitreousError as error:
        unknown = revision is not None and not isinstance(error, Unreachable)
        if unknown or cached is None or not choose_files([file.name for file in cached.folder.iterdir()]):
            raise
        tell_cached(cached, error, listener)
        return cached
    return download(remote, revision, listener)


def tell_cached(cached: Snapshot, error: VitreousError, listener: Listener) -> None:
    """Report that the cache was used, and why, unless that was requested."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        listener.message(f"{cached.repository} as it is in the cache, at commit {cached.commit[:12]}, since {error}")


def find_cached(repository: str, revision: str | None) -> Snapshot | None:
    """Return the cached files of a repository at a revision, possibly incomplete; None if the cache has no such
    commit."""
    from huggingface_hub import constants

    storage = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    commit = revision or "main"
    if not COMMIT.fullmatch(commit):
        try:
            commit = (storage / "refs" / commit).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return None
    folder = storage / "snapshots" / commit
    return Snapshot(folder, repository, commit) if folder.is_dir() else None


def download(remote: Remote, revision: str | None, listener: Listener) -> Snapshot:
    """Download the missing files of a commit, and record in the cache which commit the revision is; see `fetch`."""
    files = choose_files(list(remote.files))
    if not files:
        listed = ", ".join(sorted(remote.files)[:5]) or "nothing"
        raise CheckpointError(f"{remote.repository} on the Hub holds no weights that vitreous reads (it has {listed})")
    known = find_recommended(remote.repository)
    total, done = sum(remote.files[name] for name in files), 0
    held = find_cached(remote.repository, remote.commit)
    if held is None or not all(path_exists(held.folder / name) for name in files):
        licence = remote.licence or (known.licence if known else "") or "not stated"
        listener.message(
            f"downloading {remote.repository} from {endpoint()}: {format_bytes(total)}, licence {licence}, commit {remote.commit[:12]}"
        )
        listener.phase(f"downloading {remote.repository}, MB")
    place = Path()
    for name in files:
        place = fetch_file(remote.repository, name, remote.commit, partial(show, listener, total, done))
        done += remote.files[name]
    folder = place.parent
    if not COMMIT.fullmatch(revision or ""):
        note_commit(folder, revision or "main", remote.commit)
    return Snapshot(folder, remote.repository, remote.commit)


def show(listener: Listener, total: int, before: int, here: int) -> None:
    """Report the megabytes present: those of earlier files, and of this one."""
    listener.progress(math.ceil((before + here) / 1e6), math.ceil(total / 1e6), {})


def note_commit(snapshot: Path, revision: str, commit: str) -> None:
    """Record in the cache which commit a revision is, as the Hub's library does; a read-only cache stays as it is."""
    place = snapshot.parents[1] / "refs" / revision
    try:
        if place.is_file() and place.read_text(encoding="utf-8") == commit:
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, commit.encode())
    except (OSError, StorageError):
        return
