"""One cell of a race as a table: every contender beside the baseline and the machine's limit."""

import statistics
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from limits import find_precision
from speed import Cell

from vitreous.model.count import count_flops

BASELINE = "timm fp32"


def show(
    title: str, cell: Cell, times: Mapping[str, list[float]], limits: Mapping[str, float], baseline: str = BASELINE
) -> dict[str, Any]:
    """Print one cell's table; return its figures. A training step counts as three forward passes.

    Args:
        limits: operations a second of the fastest product, by precision.
    """
    passes = 3 if title == "training" else 1
    work = passes * cell.batch * count_flops(cell.model)
    print(
        f"\n{title}, {cell.name}; limits: {', '.join(f'{key} {value / 1e9:.0f} GFLOP/s' for key, value in limits.items())}"
    )
    print(f"\n| contender | times {baseline} | images/s | of the limit |\n|---|---|---|---|")
    found = {}
    for name, own in times.items():
        ratio = statistics.median(base / mine for base, mine in zip(times[baseline], own, strict=True))
        seconds = statistics.median(own)
        share = work / seconds / limits[find_precision(name)]
        print(f"| {name} | {ratio:.2f} | {cell.batch / seconds:.1f} | {share:.0%} |", flush=True)
        found[name] = {"ratio": ratio, "images_per_second": cell.batch / seconds, "of_limit": share, "seconds": own}
    return {"part": title, "cell": cell.name, "model": asdict(cell.model), "limits": limits, "contenders": found}
