"""What a model has learned about places (2010.11929, figure 7, middle)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vitreous.errors import ConfigError
from vitreous.model.positions import Learned, SinCos
from vitreous.model.vit import ViT


def similarity(model: ViT) -> Float[Tensor, "row col row2 col2"]:
    """Return the cosine similarity of each patch's position embedding with every other's, -1 to 1, in float64.

    [r, c] is the small picture that figure 7 shows at row r and column c. [class] has no place and is left out. A
    vector of zeros is similar to nothing: 0.

    Raises:
        ConfigError: the model has no position embedding.
    """
    positions = model.positions
    if not isinstance(positions, (Learned, SinCos)):
        raise ConfigError("this model has no position embeddings (positions='none'), so none can be compared")
    patches = positions.embedding.detach()[int(model.config.class_token) :]
    unit = F.normalize(patches.to(torch.float64), dim=1)
    grid = model.config.grid
    return (unit @ unit.T).clamp(-1, 1).view(*grid, *grid)
