"""`vitreous shard`: images written as tar shards."""

import shlex

from vitreous.cli.options.commands import Shard
from vitreous.cli.parse import parse
from vitreous.training.progress import reporter


def shard(arguments: list[str]) -> int:
    """Run `vitreous shard`."""
    options = parse(Shard, arguments, "shard")
    from vitreous.api.shards import shard as write

    display = reporter()
    try:
        found = write(
            options.source, options.out, size=int(options.megabytes * 2**20), seed=options.seed, reporter=display
        )
    finally:
        display.close()
    print(found)
    print(f"next: vitreous inspect {shlex.quote(options.out)}")
    return 0
