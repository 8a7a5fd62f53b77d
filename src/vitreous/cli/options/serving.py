"""The options of `vitreous serve`. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from vitreous.cli.options.loading import Load


@dataclass(frozen=True)
class Serve:
    """Answer requests over HTTP with one model or several, and show a page at the same address (docs/serving.md)."""

    models: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model folders, run folders, exports, or anything else that can be loaded; NAME=MODEL gives it a name."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0: all of this machine's."""
    port: int = 8000
    """0: any that is free."""
    processes: int = 1
    """Processes that share the port, each with its own copy of the models; one that dies is replaced."""
    batch: int = 32
    """Most images in one pass through a model."""
    wait_ms: float = 2.0
    """Longest that an image waits for others to share its pass, in milliseconds."""
    queue: int = 256
    """Most images of a model that wait for their answer; more are refused with 429."""
    timeout: float = 30.0
    """Seconds until an accepted request is given up with 503."""
    read_timeout: float = 10.0
    """Seconds that a client has to send a request's headers, and to send its body."""
    max_body: int = 32 * 2**20
    """Most bytes of a request."""
    max_images: int = 64
    """Most images of a request."""
    max_pixels: int = 64_000_000
    """Most pixels of an image, unless the model's own limit is lower."""
    keys: str | None = None
    """A file of API keys, one a line, that others can't read; by default those in $VITREOUS_API_KEYS, and if there are none
    everyone may ask."""
    allow_origin: tuple[str, ...] = ()
    """Origins, such as https://example.com, whose pages may ask from a browser."""
    reload_every: float = 2.0
    """Seconds between two looks at whether a model's files have changed; 0: they are read once."""
    log: bool = True
    """Write a line of JSON to standard error for each request."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "fp32"
    """bf16 is faster where the hardware multiplies it natively; auto: use it there."""
    engine: Literal["auto", "torch", "onnxruntime", "openvino"] = "auto"
    """Who computes: torch; of an exported model onnxruntime or openvino, without torch. auto: the faster one here, once enough
    images have come to measure it (docs/speed.md)."""
    threshold: float | None = None
    """Probability below which a label is "unknown"; where an image may have several classes, from which a class is there."""
    decode: Literal["exact", "reduced"] | None = None
    """exact: decode images whole (the default, unless the model was trained otherwise). reduced: large JPEGs at 1/2, 1/4 or 1/8 of
    their size, still at least twice the model's input on each side: several times as fast for photographs of many megapixels."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()
