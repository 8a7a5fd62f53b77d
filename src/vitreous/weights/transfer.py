"""Download one file from the Hub into the Hub's own cache: resumes where it broke off, and checks its hash.

huggingface_hub keeps nothing of a file whose download broke off, so hundreds of megabytes on a slow line would never
arrive. Large files are therefore fetched here, to the place where that library looks for them.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from vitreous.errors import DownloadFailed
from vitreous.weights.hub_requests import timeouts, translate_errors

SHA256 = re.compile(r"[0-9a-f]{64}")
"""The ETag of a large file is its hash."""
ATTEMPTS = 5
"""Consecutive broken connections, with nothing read in between, before giving up."""
Progress = Callable[[int], None]


def fetch_file(repository: str, name: str, commit: str, progress: Progress) -> Path:
    """Return a file's path in the cache, fetching it if it isn't there.

    Args:
        repository: owner/name.
        name: of a file at its top.
        commit: 40 hexadecimal digits.
        progress: called with the bytes of this file that are present.

    Raises:
        DownloadFailed: it is incomplete; what arrived is kept, and the next attempt continues there.
        CheckpointError: unavailable, as `hub_requests.explain` says. StorageError: the cache can't be written.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.utils import build_hf_headers

    with translate_errors(repository, commit):
        held = try_to_load_from_cache(repository, name, revision=commit)
        if isinstance(held, str):
            return Path(held)
        headers = build_hf_headers()
        url = hf_hub_url(repository, name, revision=commit)
        found = get_hf_file_metadata(url, headers=headers, timeout=timeouts())
        if found.etag and SHA256.fullmatch(found.etag) and found.size:
            if found.location.partition("?")[0].split("/")[2:3] != url.split("/")[2:3]:
                headers = {key: value for key, value in headers.items() if key.lower() != "authorization"}
            blob = Blob(repository, name, found.etag, found.size, found.location)
            blob.fetch(headers, progress)
        return Path(hf_hub_download(repository, name, revision=commit, etag_timeout=timeouts()[1]))


class Blob:
    """The content of a large file in the cache, named by its hash."""

    def __init__(self, repository: str, name: str, digest: str, size: int, url: str) -> None:
        from huggingface_hub import constants

        folder = "models--" + repository.replace("/", "--")
        self.repository, self.name, self.digest, self.size, self.url = repository, name, digest, size, url
        self.path = Path(constants.HF_HUB_CACHE) / folder / "blobs" / digest
        self.partial = self.path.with_name(f"{digest}.vitreous.incomplete")
        self.lock = Path(constants.HF_HUB_CACHE) / ".locks" / folder / f"{digest}.lock"

    def fetch(self, headers: dict[str, str], progress: Progress) -> None:
        """Fetch the missing part, unless it is complete; wait for another process that fetches it."""
        from huggingface_hub.utils import WeakFileLock

        self.lock.parent.mkdir(parents=True, exist_ok=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(self.lock):
            if self.path.exists():
                return
            with self.partial.open("ab") as file:
                self._fill(file, headers, progress)
            self._check()
            self.partial.replace(self.path)

    def _fill(self, file: BinaryIO, headers: dict[str, str], progress: Progress) -> None:
        """Read until everything is there, through broken connections."""
        from huggingface_hub.errors import HTTPError

        left = ATTEMPTS
        while (before := file.seek(0, os.SEEK_END)) < self.size:
            progress(before)
            try:
                self._read(file, before, headers, progress)
                reason = "the connection ended early"
            except HTTPError as error:  # also of a status: addresses of large files are signed, and expire
                answer = getattr(error, "response", None)
                reason = f"status {answer.status_code}" if answer is not None else str(error) or type(error).__name__
            here = file.tell()
            left = ATTEMPTS if here > before else left - 1
            if here < self.size and left == 0:
                raise DownloadFailed(
                    f"{self.name} of {self.repository} broke off at {here / 1e6:,.1f} of {self.size / 1e6:,.1f} MB ({reason}); the same "
                    "command continues from there"
                )
            if here == before:
                time.sleep(1)
        progress(self.size)

    def _read(self, file: BinaryIO, start: int, headers: dict[str, str], progress: Progress) -> None:
        """Read one answer to its end, from `start` on; a server may send all of it again."""
        from huggingface_hub import get_session
        from huggingface_hub.utils import hf_raise_for_status

        asked: dict[str, Any] = {**headers, "Accept-Encoding": "identity", "Range": f"bytes={start}-"}
        with get_session().stream("GET", self.url, headers=asked, timeout=timeouts()) as response:
            hf_raise_for_status(response)
            if response.status_code != 206:
                file.truncate(0)
            for chunk in response.iter_raw():
                file.write(chunk[: self.size - file.tell()])
                progress(file.tell())

    def _check(self) -> None:
        """Delete and refuse anything but the file that the Hub describes; raises DownloadFailed."""
        with self.partial.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.digest:
            self.partial.unlink()
            raise DownloadFailed(
                f"{self.name} of {self.repository} arrived damaged: its SHA-256 is not the Hub's; it was deleted, "
                "so try again (a proxy or mirror may have changed it)"
            )
