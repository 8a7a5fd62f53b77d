"""Files at URLs, through fsspec: fetched whole into the bounded cache, or in parts. Every request is retried a limited number of times.

Failures of a server (no answer, an internal error, half a file, wrong bytes) are retried, after ever longer waits. Its statements
about the file (it doesn't exist, it may not be read) are final.
"""

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from vitreous.errors import ConfigError, DownloadFailed
from vitreous.storage.cache import keep_file
from vitreous.storage.hashing import hash_bytes
from vitreous.storage.presence import explain_url, path_exists

T = TypeVar("T")

TRIES = 5
"""How often a request is made, and how often a file is fetched if its bytes aren't those expected."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
"""Seconds before the second request; each later wait is twice as long, up to the longest."""
TIMEOUT = 30.0
"""Seconds without a byte from a server after which a request fails."""
CHUNK = 8 * 2**20
"""Bytes per request when a file is fetched whole."""
SCHEME = re.compile(r"([a-z][a-z0-9+-]+)://+|(https?|s3|gs|gcs|abfs|az|memory):/(?!/)", re.IGNORECASE)
OTHER_FILES = r"\.(zip|t?gz|7z|rar|xz|bz2|csv|jsonl?|txt|xlsx?|jpe?g|png|webp|gif|bmp|tiff?|avif|hei[cf]|mp4|safetensors|pth?|npz|bin|onnx)$"
"""Endings of files that aren't shards or parquet."""
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Final statements of a server about a file; asking again changes nothing."""


class Incomplete(OSError):
    """A server has sent wrong or too few bytes."""


def find_url(path: str | Path) -> str | None:
    """Return the URL of data that was given as a path, with the slashes that a path loses; None for anything else.

    >>> find_url(Path("https://a.org/shards")), find_url("s3://bucket/train.tar"), find_url("photos")
    ('https://a.org/shards', 's3://bucket/train.tar', None)
    """
    text = str(path)
    found = SCHEME.match(text)
    if found is None or path_exists(text) or (found[1] or found[2]).lower() in ("file", "hf"):
        return None
    if text[found.end() :].startswith("huggingface.co/") or re.search(OTHER_FILES, text, re.IGNORECASE):
        return None
    return f"{(found[1] or found[2]).lower()}://{text[found.end() :].lstrip('/')}"


@dataclass(frozen=True)
class RemoteFile:
    """A file at a URL, in the version that was listed."""

    url: str
    size: int
    changed: int
    """A number that changes with the file's contents, as far as the server reports that."""
    sha256: str | None = None
    """SHA-256 of the contents, if known."""
    whole: bool = field(default=True, compare=False)
    """Whether the file is fetched whole into the cache when it is first read; otherwise only the necessary parts are
    fetched."""

    @property
    def path(self) -> Path:
        """The file in the cache, fetched first if it isn't there; raises DownloadFailed, StorageError."""
        name = hash_bytes(f"{self.url}\0{self.size}\0{self.changed}".encode(errors="surrogateescape"))
        return keep_file(f"{Path(self.url).name[-80:]}-{name}", self.size, self._fetch)

    def check(self, handle: int) -> None:
        """Accept the opened file: its name in the cache states its size and version."""

    def read(self, offset: int, length: int) -> bytes:
        """Return some of its bytes; raises DownloadFailed, StorageError."""
        if not self.whole:
            return fetch_part(self.url, offset, length)
        while True:
            path = self.path
            try:
                with path.open("rb", buffering=0) as file:
                    file.seek(offset)
                    return file.read(length)
            except FileNotFoundError:  # removed in between, to make room for others
                continue

    def _fetch(self, target: BinaryIO) -> None:
        """Write the file's bytes, which must be those expected."""

        def fetch() -> None:
            target.seek(0)
            target.truncate()
            digest, done = hashlib.sha256(), 0
            while done < self.size:
                part = fetch_part(self.url, done, min(CHUNK, self.size - done))
                digest.update(part)
                target.write(part)
                done += len(part)
            if self.sha256 is not None and digest.hexdigest() != self.sha256:
                raise Incomplete(f"its bytes have the SHA-256 {digest.hexdigest()[:12]}..., not {self.sha256[:12]}...")

        attempt(fetch, self.url)


def fetch_part(url: str, offset: int, length: int) -> bytes:
    """Return a complete part of a file; raises DownloadFailed."""

    def fetch() -> bytes:
        system, path = open_system(url)
        data = system.cat_file(path, start=offset, end=offset + length)
        if len(data) > length:  # a server without range requests has sent the whole file
            data = data[offset : offset + length]
        if len(data) < length:
            raise Incomplete(f"only {len(data):,} of {length:,} bytes arrived")
        return data

    return attempt(fetch, url) if length else b""


def fetch_whole(url: str, most: int) -> bytes:
    """Return a small file; raises DownloadFailed, FileNotFoundError."""

    def fetch() -> bytes:
        system, path = open_system(url)
        data = system.cat_file(path)
        if len(data) > most:
            raise ConfigError(f"{url} has {len(data):,} bytes, more than the limit of {most:,}")
        return data

    return attempt(fetch, url)


def describe_file(url: str) -> dict[str, Any]:
    """Return the server's description of a file: its size, and values that change with it; raises DownloadFailed,
    FileNotFoundError."""

    def ask() -> dict[str, Any]:
        system, path = open_system(url)
        return dict(system.info(path))

    return attempt(ask, url)


def list_folder(url: str) -> dict[str, dict[str, Any]]:
    """Return the files in a folder and its subfolders, by their names relative to it, with the server's description of
    each.

    Raises:
        DownloadFailed, FileNotFoundError.
    """

    def ask() -> dict[str, dict[str, Any]]:
        system, path = open_system(url)
        found = system.find(path, maxdepth=3, detail=True)
        return {str(name).removeprefix(path).strip("/"): dict(one) for name, one in found.items()}

    return attempt(ask, url)


def number_version(info: dict[str, Any]) -> int:
    """Return a number that changes with a file's contents, from the server's description of it."""
    known = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created", "size")
    said = "\0".join(str(info[name]) for name in known if info.get(name) is not None)
    return int(hash_bytes(said.encode(errors="surrogateescape"))[:15], 16)


def open_system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it; raises ConfigError if packages are missing."""
    try:
        import fsspec

        options: dict[str, Any] = {}
        if url.startswith(("http://", "https://")):
            import aiohttp  # pyrefly: ignore[missing-import]

            options["client_kwargs"] = {
                "timeout": aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
            }
        if is_s3 := url.startswith(("s3://", "s3a://")):
            configured = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
            times = {"connect_timeout": TIMEOUT, "read_timeout": TIMEOUT, "retries": {"max_attempts": 0}}
            options["config_kwargs"] = times | configured
        system, path = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
        if is_s3:  # s3fs retries five times, in one more loop of its own, and botocore within that
            system.retries = 1
        return system, path
    except ImportError as error:
        needs = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
        package = needs.get(url.partition("://")[0], "'vitreous[data]'")
        raise ConfigError(f"{url} needs a package that isn't installed ({error}): pip install {package}") from error
    except ValueError as error:
        raise ConfigError(f"{url} can't be opened: {error}") from error


def attempt(work: Callable[[], T], url: str) -> T:
    """Return the work's result; try it again after an error that may be temporary.

    Raises:
        DownloadFailed: it failed `TRIES` times. FileNotFoundError, PermissionError: the server says so. ConfigError.
    """
    started, wait = time.monotonic(), FIRST_WAIT
    for tried in range(1, TRIES + 1):
        try:
            return work()
        except (ConfigError, DownloadFailed, KeyboardInterrupt, *FINAL):
            raise
        except Exception as error:  # fsspec's file systems raise what their libraries raise
            status = getattr(error, "status", None)
            if isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429):
                raise PermissionError(f"the server answers {status} for {url}") from error
            if tried == TRIES:
                said = " ".join(str(error).split())[:160] or type(error).__name__
                raise DownloadFailed(
                    f"{url} could not be read in {TRIES} attempts over {time.monotonic() - started:.0f} s; the last error: "
                    f"{said}. Nothing is lost: once it can be read, the same command, or vitreous resume, continues"
                ) from error
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)
    raise AssertionError("unreachable")


def explain_remote(text: str | Path, data: bool = False) -> str | None:
    """Explain that a URL can't be used; None for a path and, if `data` may be remote, for the URL of data."""
    return None if data and find_url(text) is not None else explain_url(text)
