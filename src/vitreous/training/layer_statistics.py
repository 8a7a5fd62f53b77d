"""Norms of weights, gradients and updates, layer by layer, in the steps that are recorded."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from vitreous.training.sharding import gather_whole
from vitreous.training.state import Job
from vitreous.training.step_records import is_recorded


@contextmanager
def observe_layers(job: Job) -> Iterator[None]:
    """Measure the optimizer's step inside the block, if settings request that and a record follows; results are in
    `job.layers`.

    Weights are those before the step; gradients are those of the whole batch, before clipping.
    """
    job.layers = None
    if not (job.config.layer_statistics and is_recorded(job, job.progress.step + 1)):
        yield
        return
    layers = group_layers(job)
    before = {name: [tensor.detach().clone() for tensor in tensors] for name, tensors in layers.items()}
    gradients = {name: measure_norm([one.grad for one in tensors]) for name, tensors in layers.items()}
    yield
    weights = {name: measure_norm(tensors) for name, tensors in before.items()}
    updates = {
        name: measure_norm([new.detach() - old for new, old in zip(layers[name], before[name], strict=True)])
        for name in layers
    }
    job.layers = {"weight_norm": weights, "layer_gradient_norm": gradients, "update_norm": updates}


def group_layers(job: Job) -> dict[str, list[Tensor]]:
    """Return the trained parameters by layer; each block, the head, ... is a layer."""
    found: dict[str, list[Tensor]] = defaultdict(list)
    for parameter, name in job.optimizer.names.items():
        found[name_layer(name)].append(parameter)
    return dict(found)


def name_layer(parameter: str) -> str:
    """Return the layer to which the parameter of this name belongs.

    >>> name_layer("model.encoder.blocks.3.mlp.0.weight"), name_layer("model.head.bias"), name_layer("model.cls")
    ('encoder.blocks.3', 'head', 'cls')
    """
    words = parameter.removeprefix("model.").split(".")
    number = next((place for place, word in enumerate(words) if word.isdigit()), None)
    return ".".join(words[: number + 1] if number is not None else words[: max(1, len(words) - 1)])


def measure_norm(tensors: list[Tensor | None]) -> float:
    """Return the Euclidean norm of all values of these tensors, over all processes; None counts as zeros."""
    squares = [gather_whole(one.detach().float().square().sum()) for one in tensors if one is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
