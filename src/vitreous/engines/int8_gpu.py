"""Dense layers in int8 on an NVIDIA GPU, by torchao: weights with one scale an output, as on a CPU, but inputs that are rounded in each
pass, with one scale a token, since a GPU finds a token's largest value on the way.

torchao's products run on a CPU too, slowly, which is how the tests see them.
"""

from collections.abc import Collection

from torch import nn

from vitreous.runtime.packages import require_packages
from vitreous.runtime.silence import silence

MULTIPLE = 8
"""Of both sizes of a layer: in int8 cuBLAS multiplies no others."""
COMPILER = {"force_fuse_int_mm_with_mul": True}
"""Of torch.compile: a product and its scales are one kernel. torchao would set this, and more, for the whole process."""
LOGGERS = ("torchao", "torch.utils._pytree")
"""What speaks when torchao is imported: of its compiled parts, none of which is needed here."""


def check_torchao() -> None:
    """Raise ConfigError if torchao isn't installed."""
    require_packages(("torchao",), "int8 on a GPU", "gpu")


def round_layers(model: nn.Module, names: Collection[str]) -> tuple[str, ...]:
    """Give dense layers of a model, which shares them with no other one, int8 weights; return the names of those that have them now.

    Left as they are: layers of sizes that cuBLAS doesn't multiply in int8.

    Args:
        model: in eval mode; the other parameters stay as they are.
        names: of its layers, as in `named_modules`.

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
