"""A model compiled into a single graph, with its gradients."""

import torch
from torch import Tensor, nn


def check_one_graph(model: nn.Module, x: Tensor, backend: str) -> None:
    """Hold a model in training, compiled without graph breaks, to what it gives by itself; every parameter gets a gradient."""
    torch._dynamo.reset()
    nn.init.ones_(model.head.weight)
    found = torch.compile(model, fullgraph=True, backend=backend)(x)
    torch.testing.assert_close(found, model(x))
    found.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
