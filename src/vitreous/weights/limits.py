"""Limits on the size of a model that a configuration may describe, checked against its file before building it."""

from vitreous.errors import CheckpointError
from vitreous.model.count import count_parameters
from vitreous.model.kinds import Config
from vitreous.storage.limits import FREE

SLACK = 4
"""A model may need this many times the values in a file; missing tensors are then named one by one."""
MOST_TOKENS = 2**20
"""Most patches of an image; no model here has seen more than a few thousand."""


def check_model(config: Config, held: int, where: str) -> None:
    """Refuse an architecture that needs more values than a file holds, before building a model of that size.

    Args:
        config: from a configuration and the shapes of tensors.
        held: number of values in all tensors of the file.
        where: the file, for the message.

    Raises:
        CheckpointError: both numbers.
    """
    rows, cols = config.grid
    if rows * cols > MOST_TOKENS:
        raise CheckpointError(f"{where}: its configuration describes more than {MOST_TOKENS:,} patches per image")
    needed = count_parameters(config)
    if needed > SLACK * held + FREE:
        raise CheckpointError(
            f"{where} holds {held:,} values, but its configuration describes a model of "
            f"{min(needed, 10**18):,}{' or more' if needed > 10**18 else ''}: they don't belong together"
        )
