"""Try an optimizer of another module on a few numbers, before data is opened: wrong arguments show, and so does a state that a
checkpoint would lose."""

import torch
from torch import Tensor, nn

from vitreous.errors import ConfigError
from vitreous.training.config import OptimizerConfig
from vitreous.training.optimizer import Optimizer
from vitreous.training.optimizer_class import describe_error, is_class

ROWS, COLS = 4, 3
"""The matrix that is trained; its bias has as many numbers as rows."""
BEFORE, AFTER = 3, 2
"""Steps before the state is saved and restored, and after."""


def try_optimizer(config: OptimizerConfig, divided: bool = False) -> None:
    """Refuse an optimizer of another module with which a run can't be made, or couldn't be resumed to the same bits.

    Args:
        config: the optimizer's settings; those of our own names pass.
        divided: whether the model is divided among processes.

    Raises:
        ConfigError: the class, its module or its arguments can't be used, a step fails, steps are not repeatable, its state is not
            kept by parameter and group, or, for a divided model, that state has other shapes than the parameters.
    """
    if not is_class(config.name):
        return
    with torch.random.fork_rng(devices=[]):
        straight, optimizer = build_trial(config)
        try:
            take_steps(straight, optimizer, range(BEFORE))
            saved = {name: value.clone() for name, value in optimizer.state_tensors().items()}
            resumed, again = build_trial(config)
            resumed.load_state_dict(straight.state_dict())
            again.load_state_tensors(saved)
            take_steps(straight, optimizer, range(BEFORE, BEFORE + AFTER))
            take_steps(resumed, again, range(BEFORE, BEFORE + AFTER))
        except Exception as error:  # whatever the class raises
            raise ConfigError(
                f"--optimizer {config.name} can't train: a step fails ({describe_error(error)})"
            ) from error
    left, right = (list(one.parameters()) for one in (straight, resumed))
    if not all(torch.equal(one, other) for one, other in zip(left, right, strict=True)):
        raise ConfigError(
            f"--optimizer {config.name}: a run couldn't be resumed to the same bits, since it draws at random, or keeps more than its state "
            "and its groups hold; name another class"
        )
    odd = [name for name, value in saved.items() if value.numel() > 1 and value.shape not in ((ROWS, COLS), (ROWS,))]
    if divided and odd:
        raise ConfigError(
            f"--optimizer {config.name} keeps {odd[0].partition('.')[0]}, shaped otherwise than its parameter, which can't be divided among "
            "processes; set --shard none"
        )


def build_trial(config: OptimizerConfig) -> tuple[nn.Linear, Optimizer]:
    """Return a dense layer, and the optimizer of its weights."""
    layer = nn.Linear(COLS, ROWS)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(make_numbers(parameter, 0))
    return layer, Optimizer(layer, config)


def take_steps(layer: nn.Linear, optimizer: Optimizer, steps: range) -> None:
    """Take some steps, each with gradients of its own."""
    for step in steps:
        for parameter in layer.parameters():
            parameter.grad = make_numbers(parameter, step + 1)
        optimizer.step(1.0 / (step + 1))


def make_numbers(like: Tensor, step: int) -> Tensor:
    """Return numbers between -1 and 1 that differ by place and step."""
    return torch.sin(torch.arange(1, like.numel() + 1, dtype=like.dtype) * (step + 1.7)).view_as(like)
