"""The options of `vitreous serve`. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from vitreous.cli.options.loading import Load
from vitreous.serving.options import ServiceLimits


@dataclass(frozen=True)
class Serve(ServiceLimits):
    """Serve one or several models over HTTP, with a web page at the same address (docs/serving.md)."""

    models: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model folders, run folders, exports, or anything else that can be loaded; NAME=MODEL gives it a name."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0: all addresses of this machine."""
    port: int = 8000
    """Port to listen on; 0: any free one."""
    keys: str | None = None
    """A file of API keys, one per line, that other users can't read; by default the keys in $VITREOUS_API_KEYS. Without
    any, no key is needed."""
    allow_origin: tuple[str, ...] = ()
    """Origins, such as https://example.com, whose pages may send requests from a browser; *: all."""
    log: bool = True
    """Log each request as a line of JSON on standard error."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "fp32"
    """bf16 is faster where hardware supports it; auto: use it there. int8: for models in int8."""
    engine: Literal["auto", "torch", "onnxruntime", "openvino"] = "auto"
    """The engine: torch; for an exported model onnxruntime or openvino, without torch. auto: the faster one on this
    machine, measured once enough images have come (docs/speed.md)."""
    compile: bool = False
    """Compile for an NVIDIA GPU, which takes some ten seconds."""
    threshold: float | None = None
    """Predict "unknown" if the most probable class is less probable than this; for multilabel models, predict every
    class at least this probable."""
    decode: Literal["exact", "reduced"] | None = None
    """exact: decode images at full size (the default, unless the model was trained otherwise). reduced: decode large
    JPEGs at 1/2, 1/4 or 1/8 of their size, but at least twice the model's input on each side; several times as fast for
    large photographs."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()
