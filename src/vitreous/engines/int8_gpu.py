"""Dense layers in int8 on an NVIDIA GPU, by torchao. Weights have one scale per output, as on a CPU, but inputs are rounded in
each pass with one scale per token, since a GPU finds a token's largest value along the way.

torchao's products also run on a CPU, slowly, which is how the tests check them.
"""

from collections.abc import Collection

from torch import nn

from vitreous.runtime.packages import require_packages
from vitreous.runtime.silence import silence

MULTIPLE = 8
"""Both sizes of a layer must be multiples of this: cuBLAS multiplies no others in int8."""
COMPILER = {"force_fuse_int_mm_with_mul": True}
"""Options of torch.compile: a product and its scales become one kernel. torchao would set this, and more, for the whole
process."""
LOGGERS = ("torchao", "torch.utils._pytree")
"""Loggers that write when torchao is imported, about its compiled parts, none of which is needed here."""


def check_torchao() -> None:
    """Raise ConfigError if torchao isn't installed."""
    require_packages(("torchao",), "int8 on a GPU", "gpu")


def round_layers(model: nn.Module, names: Collection[str]) -> tuple[str, ...]:
    """Give dense layers of a model int8 weights, and return the names of the layers that have them now.

    The model mustn't share these layers with another one. Layers of sizes that cuBLAS doesn't multiply in int8 stay unchanged.

    Args:
        model: in eval mode; the other parameters stay as they are.
        names: the layers' names, as in `named_modules`.

    Raises:
        ConfigError: torchao isn't installed.
    """
    check_torchao()
    layers = {name: module for name, module in model.named_modules() if name in names and isinstance(module, nn.Linear)}
    fitting = tuple(
        name for name, layer in layers.items() if not (layer.in_features % MULTIPLE or layer.out_features % MULTIPLE)
    )
    for name in fitting:
        layers[name]._parameters = dict(layers[name]._parameters)
    with silence(LOGGERS):
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        how = Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)
        quantize_(model, how, filter_fn=lambda _, name: name in fitting)
    return fitting
