"""What a model has learned about places (2010.11929, figure 7, middle)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vitreous.errors import ConfigError
from vitreous.model.vit import ViT


def similarity(model: ViT) -> Float[Tensor, "row col row2 col2"]:
    """Return the cosine similarity of each patch's position embedding with every other's, -1 to 1, in float64.

    [r, c] is the small picture that figure 7 shows at row r and column c. [class] has no place and is left out. A
    vector of zeros is similar to nothing: 0.

    Raises:
        ConfigError: the model has no position embedding.
    """
    if model.positions is None:
        raise ConfigError(
            f"positions={model.config.positions!r} adds no vectors to the tokens, so none can be compared"
        )
    patches = model.positions.vectors().detach()[model.config.placed_prefix :]
    unit = F.normalize(patches.to(torch.float64), dim=1)
    grid = model.config.grid
    return (unit @ unit.T).clamp(-1, 1).view(*grid, *grid)
