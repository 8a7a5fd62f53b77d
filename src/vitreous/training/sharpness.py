"""Sharpness-aware minimisation (SAM; Foret et al., 2010.01412, algorithm 1): a step uses the gradient not at the weights w, but at
w + rho g / |g|, uphill along the gradient g of the whole batch.

The authors' code, by default, moves each accelerator's copy along the gradient of its own examples; here that of all processes
and parts of a step counts, as in equation 2, so that weights depend on neither.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vitreous.model.batch_norm import list_statistics
from vitreous.training.sharding import gather_whole, take_local
from vitreous.training.state import Job

LEAST = 1e-12
"""Added to the gradient's norm, as in davda54/sam: without a gradient the weights stay."""


@contextmanager
def step_uphill(job: Job) -> Iterator[None]:
    """Move the trained weights uphill for the block, and clear the gradients before it.

    Afterwards the weights have the same bits as before, and batch norm's running statistics are those of before the block, as in the
    authors' code.
    """
    moved = [parameter for parameter in job.optimizer.names if parameter.grad is not None]
    weights, statistics = take_local(moved), list_statistics(job.objective)
    before = [one.detach().clone() for one in (*weights, *statistics)]
    with torch.no_grad():
        gradients = [parameter.grad for parameter in moved]
        norm = gather_whole(torch.nn.utils.get_total_norm(gradients))
        steps = torch._foreach_mul(take_local(gradients), job.config.optimizer.sam / (norm + LEAST))
        torch._foreach_add_(weights, steps)
    job.objective.zero_grad(set_to_none=True)
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_([*weights, *statistics], before)
