"""Named intermediates of a forward pass, recorded during it."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from vitreous.errors import UnknownName
from vitreous.shapes import Float


def gather_outputs(
    model: nn.Module,
    images: Float[Tensor, "batch channel row col"],
    places: Mapping[str, nn.Module],
    names: Sequence[str],
) -> dict[str, Float[Tensor, "batch ..."]]:
    """Return the outputs of the named modules in one forward pass; raises UnknownName for a name not in `places`."""
    found: dict[str, Tensor] = {}
    handles = []
    try:
        for name in names:
            if name not in places:
                raise UnknownName("intermediate", name, places)
            keep = lambda _module, _inputs, output, name=name: found.__setitem__(name, output)  # noqa: E731
            handles.append(places[name].register_forward_hook(keep))
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return {name: found[name] for name in names}


def name_stages(count: int, layers: Sequence[int], norm: bool) -> list[str]:
    """Return the names of some of `count` stages' outputs: 0 is the first, -1 the last, "norm" if that is to be normalised.

    >>> name_stages(4, [0, -1], norm=True), name_stages(4, [3, 4], norm=False)
    (['stage.0', 'norm'], ['stage.3', 'stage.4'])
    """
    places = (layer % count if -count <= layer < count else layer for layer in layers)
    return ["norm" if norm and place == count - 1 else f"stage.{place}" for place in places]
