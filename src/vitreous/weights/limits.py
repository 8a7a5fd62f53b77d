"""How large a model a configuration may ask for: checked against its file before a model of that size is built."""

from vitreous.errors import CheckpointError
from vitreous.model.config import ViTConfig
from vitreous.model.count import count_parameters
from vitreous.model.resnet_config import ResNetConfig
from vitreous.storage.limits import FREE

SLACK = 4
"""A model may need so many times the values that a file holds: what is missing is then named one by one."""
MOST_TOKENS = 2**20
"""Patches of an image; no model here has seen more than some thousands."""


def check_model(config: ViTConfig | ResNetConfig, held: int, where: str) -> None:
    """Refuse an architecture that needs more values than a file holds, before a model of that size is built.

    Args:
        config: what a configuration and the shapes of tensors say.
        held: values of all tensors in the file.
        where: the file, for the message.

    Raises:
        CheckpointError: both numbers.
    """
    rows, cols = config.grid
    if rows * cols > MOST_TOKENS:
        raise CheckpointError(f"{where}: its configuration speaks of more than {MOST_TOKENS:,} patches in an image")
    needed = count_parameters(config)
    if needed > SLACK * held + FREE:
        raise CheckpointError(
            f"{where} holds {held:,} values, and its configuration describes a model of {min(needed, 10**18):,}"
            f"{' or more' if needed > 10**18 else ''}: they don't belong together"
        )
