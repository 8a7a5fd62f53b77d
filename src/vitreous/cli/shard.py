"""`vitreous shard`: images written as tar shards."""

import math
import shlex

from vitreous.cli.options.data import Shard
from vitreous.cli.parse import parse
from vitreous.errors import ConfigError
from vitreous.training.progress import reporter


def shard(arguments: list[str]) -> int:
    """Run `vitreous shard`."""
    options = parse(Shard, arguments, "shard")
    if not 1 <= (size := options.megabytes * 2**20) < math.inf:
        raise ConfigError(f"--megabytes is {options.megabytes:g}; it must be a number above 0, such as 256")
    from vitreous.api.shards import shard as write

    display = reporter()
    try:
        found = write(options.source, options.out, size=int(size), seed=options.seed, reporter=display)
    finally:
        display.close()
    print(found)
    print(f"next: vitreous inspect {shlex.quote(options.out)}")
    return 0
