"""Does a map show what the model bases its answer on? Deletion and insertion (RISE, 1806.07421, section 4.3)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.errors import ConfigError, UnknownName
from vitreous.shapes import Float, Float64

Score = Callable[[Float[Tensor, "batch channel row col"]], Float[Tensor, " batch"]]
"""Maps images, as the model takes them, to the probability of the class that the map explains, 0 to 1."""
BASELINES = ("mean", "blur")
CHUNK = 32
"""Most altered images scored at once."""


@dataclass(frozen=True)
class Curve:
    """The probability of a class as an image's cells are removed, or restored, in a map's order."""

    shares: Float64[Tensor, " step"]
    """Share of the cells changed, 0 to 1."""
    probabilities: Float64[Tensor, " step"]

    @property
    def area(self) -> float:
        """Area under the curve, 0 to 1. Deletion: the lower, the more faithful the map; insertion: the higher."""
        return float(torch.trapezoid(self.probabilities, self.shares))


def measure_deletion(
    score: Score,
    image: Float[Tensor, "channel row col"],
    heat: Float[Tensor, "map_row map_col"],
    baseline: str | Tensor = "mean",
    steps: int = 32,
) -> Curve:
    """Replace the cells that a map ranks highest by the baseline, step by step, and record the probability.

    The first point is the whole image, the last one the baseline.

    Args:
        score: the probability of the class that the map explains.
        image: as the model takes it, normalised.
        heat: any map; its cells, patches or pixels, divide the image evenly. Equal cells go in reading order.
        baseline: the replacement: mean, the image's mean colour; blur, the image blurred; or another image.
        steps: changes, each of about as many cells; at most one per cell.

    Raises:
        ConfigError: a map with more rows or columns than the image, an unknown baseline, or no steps.
    """
    return _measure_curve(score, (image, make_baseline(image, baseline)), heat, steps)


def measure_insertion(
    score: Score,
    image: Float[Tensor, "channel row col"],
    heat: Float[Tensor, "map_row map_col"],
    baseline: str | Tensor = "blur",
    steps: int = 32,
) -> Curve:
    """Restore the cells that a map ranks highest into the baseline; otherwise as `measure_deletion`."""
    return _measure_curve(score, (make_baseline(image, baseline), image), heat, steps)


def make_baseline(image: Float[Tensor, "channel row col"], baseline: str | Tensor) -> Float[Tensor, "channel row col"]:
    """Return the image without its content: its mean colour, or blurred so that only coarse colour remains.

    The blur is a Gaussian whose deviation is an eighth of the shorter side, mirrored at the border.
    """
    if isinstance(baseline, Tensor):
        if baseline.shape != image.shape:
            raise ConfigError(
                f"the baseline's shape is {tuple(baseline.shape)}; it must be the image's, {tuple(image.shape)}"
            )
        return baseline
    if baseline not in BASELINES:
        raise UnknownName("baseline", baseline, BASELINES)
    if baseline == "mean":
        return image.mean(dim=(1, 2), keepdim=True).expand_as(image)
    deviation = min(image.shape[1:]) / 8
    return _blur(_blur(image, deviation).mT, deviation).mT


def _blur(image: Tensor, deviation: float) -> Tensor:
    """Blur along the columns; the border is mirrored as often as the kernel reaches over it."""
    count = image.shape[2]
    reach = max(1, round(3 * deviation))
    offsets = torch.arange(-reach, reach + 1, device=image.device)
    kernel = torch.exp(-0.5 * (offsets / deviation).square())
    places = (torch.arange(count, device=image.device)[:, None] + offsets) % (2 * count)
    places = torch.where(places < count, places, 2 * count - 1 - places)
    matrix = torch.zeros(count, count, device=image.device).scatter_add(
        1, places, (kernel / kernel.sum()).expand(count, -1)
    )
    return image @ matrix.to(image.dtype).T


def draw_random_heat(rows: int, cols: int, seed: int = 0) -> Float[Tensor, "map_row map_col"]:
    """Return a map in random order, which any other map must beat."""
    return torch.rand(rows, cols, generator=torch.Generator().manual_seed(seed))


def _measure_curve(score: Score, ends: tuple[Tensor, Tensor], heat: Tensor, steps: int) -> Curve:
    start, end = ends
    rows, cols = start.shape[1:]
    if steps < 1:
        raise ConfigError(f"steps is {steps}; it must be at least 1")
    if heat.shape[0] > rows or heat.shape[1] > cols:
        raise ConfigError(f"a map of {tuple(heat.shape)} cells doesn't fit an image of {rows}x{cols} pixels")
    cells = heat.numel()
    rank = torch.empty(cells, dtype=torch.long, device=start.device)
    order = heat.flatten().argsort(descending=True, stable=True).to(start.device)
    rank[order] = torch.arange(cells, device=start.device)
    ranks = F.interpolate(rank.view(1, 1, *heat.shape).float(), size=(rows, cols), mode="nearest-exact")[0]
    counts = torch.linspace(0, cells, min(steps, cells) + 1, dtype=torch.float64).round()
    found = []
    with torch.no_grad():
        for part in counts.float().to(start.device).split(CHUNK):
            changed = ranks[None] < part.view(-1, 1, 1, 1)
            found.append(score(torch.where(changed, end, start)).cpu().double())
    return Curve(counts / cells, torch.cat(found))
