"""What shards.json says of the shards beside it, on a disk or at a URL."""

import json
from pathlib import Path
from typing import Any

from vitreous.errors import DataError

PLAN = "shards.json"
"""What `vitreous shard` writes beside shards: the class names, and each shard's images, bytes and SHA-256."""
MOST_PLAN_BYTES = 256 * 2**20
SHARD: dict[str, type] = {"url": str, "nsamples": int, "filesize": int, "sha256": str}
"""What is noted of each shard."""
ANEW = "write the shards anew with vitreous shard"


def read_plan(plan: Path) -> dict[str, Any]:
    """Return what shards.json holds; raises DataError."""
    try:
        if plan.stat().st_size > MOST_PLAN_BYTES:
            raise ValueError(f"it has {plan.stat().st_size:,} bytes")
        data = plan.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{plan} is damaged ({str(error)[:120]}); {ANEW}") from error
    return parse_plan(data, str(plan))


def parse_plan(data: bytes, where: str, remedy: str = ANEW) -> dict[str, Any]:
    """Return what the bytes of a shards.json hold; raises DataError, which says the remedy."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is damaged ({str(error)[:120]}); {remedy}") from error
    if not isinstance(found, dict):
        raise DataError(f"{where} is no list of shards; {remedy}")
    return found


def find_class_names(plan: dict[str, Any], where: str) -> list[str] | None:
    """Return the names of the classes by number; None if shards.json has none; raises DataError."""
    classes = plan.get("classes")
    if classes is not None and not (isinstance(classes, list) and all(isinstance(one, str) and one for one in classes)):
        raise DataError(f"{where} has classes that are no list of names; {ANEW}")
    return classes


def list_shards(plan: dict[str, Any], where: Path) -> list[dict[str, Any]]:
    """Return what `vitreous shard` noted of each shard; raises DataError where it isn't all there."""
    listed = plan.get("shardlist") or []
    for one in listed if isinstance(listed, list) else [listed]:
        if not isinstance(one, dict) or any(type(one.get(name)) is not kind for name, kind in SHARD.items()):
            raise DataError(
                f"{where} has a shard of {str(one)[:120]}; expected {', '.join(SHARD)} of each; "
                "put back the file that was written, or choose a new folder"
            )
        if one["url"] != Path(one["url"]).name:
            raise DataError(f"{where} names {one['url']!r} as a shard; it must be a file beside it")
    return listed
