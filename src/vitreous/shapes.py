"""The axis words. Every shape annotation and einops pattern in vitreous is spelled with these.

    batch     examples side by side                  token     positions of the sequence, [class] included
    channel   colour planes                          dim       width of the residual stream (the paper's D)
    row, col  height and width, in pixels of an      head      attention heads
              image or in cells of a patch grid      head_dim  dim / heads
    label     classes                                query, key   tokens that look, tokens that are looked at

Grids and sizes are always (rows, cols), never inferred from a square root.
"""

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from typing import Annotated as Pixels  # noqa: F401 (others take it from here)


def __getattr__(name: str) -> Any:
    """Return `Pixels`, which is made when it is first asked for: settings and `--help` need neither jaxtyping nor NumPy."""
    if name != "Pixels":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from jaxtyping import AbstractDtype

    class Pixels(AbstractDtype):
        """An array of pixels, 0 to 255: uint8, or float32 where an image's channels are kept as they are."""

        dtypes: ClassVar = ["uint8", "float32"]

    globals()[name] = Pixels
    return Pixels


class Size(NamedTuple):
    """Height and width: pixels of an image or of a patch, or cells of a patch grid."""

    rows: int
    cols: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.cols}"


class Box(NamedTuple):
    """A rectangle of pixels: rows top to top + rows, cols left to left + cols."""

    top: int
    left: int
    rows: int
    cols: int
