"""The options of `vitreous study`. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Study:
    """Repeat one of the paper's experiments: runs, table, figure, and whether its finding was reproduced.

    With the same options, it continues where it stopped.
    """

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None
    """Which study; --list shows them."""
    scale: Literal["laptop", "gpu", "paper", "smoke"] = "laptop"
    """laptop: minutes on a core or two; gpu: half an hour on a GPU; paper: the paper's configuration; smoke: a trial of
    seconds."""
    data: str = "digits"
    """What to train on, as for `train`; laptop scale uses a fixed part of it. For paper scale, for example ImageNet."""
    out: str | None = None
    """The study's folder; by default studies/<name>-<scale>."""
    only: str = "*"
    """Run only the cells whose names match this pattern, such as "none-*", and the cells that they need."""
    list: bool = False
    """List the studies, or the cells of the named study."""
