"""The axis words. Every shape annotation and einops pattern in vitreous is spelled with these.

    batch     examples side by side                  token     positions of the sequence, [class] included
    channel   colour planes                          dim       width of the residual stream (the paper's D)
    row, col  height and width, in pixels of an      head      attention heads
              image or in cells of a patch grid      head_dim  dim / heads
    label     classes                                query, key   tokens that look, tokens that are looked at

Grids and sizes are always (rows, cols), never inferred from a square root.

Arrays are annotated by jaxtyping, `Float[Tensor, "batch token dim"]`, if it has been imported before
vitreous, as shape checks require. Otherwise the same names are `Annotated`, as static checkers see them: importing
jaxtyping takes half as long again as importing all of vitreous that a prediction in ONNX Runtime needs.
"""

import sys
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

CHECKED = "jaxtyping" in sys.modules

if TYPE_CHECKING or CHECKED:
    from jaxtyping import (
        AbstractDtype,
        Bool,
        Float,
        Float32,
        Float64,
        Int,
        Int8,
        Int32,
        Int64,
        Integer,
        Num,
        Shaped,
        UInt8,
        UInt16,
        UInt64,
    )

if TYPE_CHECKING:
    from typing import Annotated as Pixels
elif CHECKED:

    class Pixels(AbstractDtype):
        """An array of pixels, 0 to 255: uint8, or float32 if an image's channels are kept as they are."""

        dtypes: ClassVar = ["uint8", "float32"]

else:
    Bool = Float = Float32 = Float64 = Int = Int8 = Int32 = Int64 = Integer = Num = Shaped = UInt8 = UInt16 = UInt64 = (
        Pixels
    ) = Annotated


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
