"""Shards and parquet files at a URL: found by shards.json or by listing the folder, and opened like those on a disk.

If all of them fit into the cache they are fetched whole, when they are first needed; else images of shards are read one by one.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from vitreous.data.sources.packs import Contents, read_split
from vitreous.data.sources.parquet_files import open_table_file
from vitreous.data.sources.shard_plan import MOST_PLAN_BYTES, PLAN, find_class_names, parse_plan
from vitreous.data.sources.shards import INDEX, Index, describe_shard, find_index
from vitreous.errors import ConfigError, DataError, DownloadFailed, VitreousError
from vitreous.storage.cache import LIMIT, cache_limit
from vitreous.storage.remote import RemoteFile, describe_file, fetch_whole, list_folder, number_version

KINDS = (".tar", ".parquet")
MOST_INDEX_BYTES = 1 * 2**30
AT_ONCE = 16
"""Indexes that are fetched at once."""

Openers = dict[str, list[Callable[[], Contents]]]


@contextmanager
def translate_errors(url: str) -> Iterator[None]:
    """Turn what goes wrong while data is listed into one line, a mistake of the user: DataError."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"there is nothing at {url}; check the address") from error
    except (PermissionError, IsADirectoryError) as error:
        raise DataError(f"{url} can't be read: {' '.join(str(error).split())[:160]}") from error
    except DownloadFailed as error:
        raise DataError(str(error)) from error


def find_remote(url: str) -> Openers:
    """Return how the packed files of each split at a URL are opened, "" for those of none.

    Raises:
        DataError: nothing there, or nothing that can be read. ConfigError: a package is missing.
    """
    with translate_errors(url):
        files, classes = list_files(url.rstrip("/"))
    if not files:
        raise DataError(
            f"{url} holds no .tar or .parquet files; write shards with vitreous shard, and upload that folder"
        )
    total = sum(one.size for one in files)
    whole = total <= cache_limit()
    if not whole and any(read_suffix(one.url) == ".parquet" for one in files):
        raise DataError(
            f"the parquet files at {url} have {total:,} bytes, more than the cache may hold ({LIMIT}), and can't be read in parts; "
            "raise it, or write them as shards with vitreous shard"
        )
    found: Openers = {}
    for one in files:
        name = one.url.removeprefix(url.rstrip("/")).lstrip("/") or PurePosixPath(urlsplit(one.url).path).name
        place = PurePosixPath(name)
        split = read_split(place.name, *([place.parent.name] if len(place.parts) > 1 else [])) or ""
        file = RemoteFile(one.url, one.size, one.changed, one.sha256, whole)
        found.setdefault(split, []).append(functools.partial(open_remote, file, name, classes))
    return found


@functools.lru_cache(maxsize=4)
def list_files(url: str) -> tuple[list[RemoteFile], list[str] | None]:
    """Return the packed files at a URL, and the classes by number; in one process they are asked for once."""
    if read_suffix(url) in KINDS:
        info = describe_file(url)
        return [RemoteFile(url, read_size(info, url), number_version(info))], None
    try:
        plan = parse_plan(fetch_whole(f"{url}/{PLAN}", MOST_PLAN_BYTES), f"{url}/{PLAN}", "upload it anew")
        return list_planned(url, plan), find_class_names(plan, f"{url}/{PLAN}")
    except (FileNotFoundError, PermissionError):  # a bucket that may not be listed says either
        found = list_folder(url)
    except VitreousError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{url}/{PLAN} is damaged ({str(error)[:120]}); upload it anew") from error
    return [
        RemoteFile(f"{url}/{name}", read_size(info, name), number_version(info))
        for name, info in sorted(found.items())
        if read_suffix(name) in KINDS
    ], None


def list_planned(url: str, plan: Mapping[str, Any]) -> list[RemoteFile]:
    """Return the shards that a shards.json names; raises DataError."""
    if plan.get("complete") is False:
        raise DataError(f"{url} wasn't written to its end; run its vitreous shard command again, and upload the rest")
    found = []
    for one in plan["shardlist"]:
        name, size, sha256 = one["url"], one["filesize"], one.get("sha256")
        if not isinstance(name, str) or name != PurePosixPath(name).name or type(size) is not int or size < 0:
            raise DataError(f"{url}/{PLAN} names {name!r} of {size!r} bytes; it must be a file beside it")
        version = number_version({"ETag": sha256, "size": size})
        found.append(RemoteFile(f"{url}/{name}", size, version, sha256 if isinstance(sha256, str) else None))
    fetch_indexes([one.url for one in found])
    return found


def fetch_indexes(urls: Sequence[str]) -> None:
    """Fetch the indexes of shards, several at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(read_index, urls))


@functools.lru_cache(maxsize=100_000)
def read_index(url: str) -> bytes | None:
    """Return the index beside a shard; None if there is none."""
    try:
        return fetch_whole(f"{url}{INDEX}", MOST_INDEX_BYTES)
    except (FileNotFoundError, PermissionError):
        return None


def open_remote(file: RemoteFile, name: str, classes: Sequence[str] | None) -> Contents:
    """Return what a shard or a parquet file at a URL holds; raises DataError, ConfigError."""
    with translate_errors(file.url):
        if read_suffix(file.url) == ".parquet":
            return open_table_file(file, name)
        index = read_index(file.url)
        if index is not None:
            return describe_shard(file, Index.from_json(index, file.size, f"{file.url}{INDEX}"), name, classes)
        if not file.whole:
            raise ConfigError(
                f"{file.url} has no index beside it, and doesn't fit into the cache ({LIMIT}) to be walked through; write shards with "
                "vitreous shard"
            )
        return describe_shard(file, find_index(file), name, classes)


def read_suffix(url: str) -> str:
    """Return the extension of the file at a URL, in lower case."""
    return PurePosixPath(urlsplit(url).path).suffix.lower()


def read_size(info: Mapping[str, Any], url: str) -> int:
    """Return a file's size; raises DataError if the server doesn't say it."""
    size = info.get("size")
    if type(size) is not int or size < 0:
        raise DataError(f"the server doesn't say how long {url} is; upload shards with their shards.json, which does")
    return size
