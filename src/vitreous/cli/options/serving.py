"""The options of `vitreous serve`. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from vitreous.cli.options.loading import Load
from vitreous.serving.options import ServiceLimits


@dataclass(frozen=True)
class Serve(ServiceLimits):
    """Answer requests over HTTP with one model or several, and show a page at the same address (docs/serving.md)."""

    models: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model folders, run folders, exports, or anything else that can be loaded; NAME=MODEL gives it a name."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0: all of this machine's."""
    port: int = 8000
    """0: any that is free."""
    keys: str | None = None
    """A file of API keys, one per line, that others can't read; by default those in $VITREOUS_API_KEYS. Without any, no key
    is needed."""
    allow_origin: tuple[str, ...] = ()
    """Origins, such as https://example.com, whose pages may send requests from a browser; *: all."""
    log: bool = True
    """Write a line of JSON to standard error for each request."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "fp32"
    """bf16 is faster on hardware that multiplies it fast; auto: use it there. int8: what vitreous quantise wrote."""
    engine: Literal["auto", "torch", "onnxruntime", "openvino"] = "auto"
    """Who computes: torch; of an exported model onnxruntime or openvino, without torch. auto: the faster one here, once
    enough images have come to measure it (docs/speed.md)."""
    compile: bool = False
    """Compile the model for an NVIDIA GPU, in some ten seconds."""
    threshold: float | None = None
    """Probability below which a label is "unknown"; where an image may have several classes, from which a class is there."""
    decode: Literal["exact", "reduced"] | None = None
    """exact: decode images whole (the default, unless the model was trained otherwise). reduced: large JPEGs at 1/2,
    1/4 or 1/8 of their size, still at least twice the model's input on each side: several times as fast for photographs
    of many megapixels."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()
