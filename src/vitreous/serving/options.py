"""The service's settings. Imports neither torch nor a web framework."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitreous.errors import ConfigError

if TYPE_CHECKING:
    from vitreous.predictor import Predictor

NO_FEWER = {
    "processes": 1, "batch": 1, "wait_ms": 0, "queue": 1, "timeout": 0.001, "read_timeout": 0.001, "max_body": 1024,
    "max_images": 1, "max_pixels": 1, "reload_every": 0,
}  # fmt: skip
"""The smallest allowed value of each number."""


@dataclass(frozen=True, kw_only=True)
class ServiceLimits:
    """The limits of a service, and how it shares its work."""

    processes: int = 1
    """Processes that share the port, each with its own copy of the models; one that dies is replaced."""
    batch: int = 32
    """Most images in one pass through a model."""
    wait_ms: float = 2.0
    """Longest time, in milliseconds, that an image waits for others that are being decoded, to share a pass with
    them."""
    queue: int = 256
    """Most images that wait for a model's answer; more are refused with 429."""
    timeout: float = 30.0
    """Seconds after which an accepted request fails with 503."""
    read_timeout: float = 10.0
    """Seconds that a client has for sending a request's headers, and again for its body."""
    max_body: int = 32 * 2**20
    """Most bytes of a request."""
    max_images: int = 64
    """Most images of a request."""
    max_pixels: int = 64_000_000
    """Most pixels of an image, unless the model's own limit is lower."""
    reload_every: float = 2.0
    """Seconds between checks for changes in a model's files; 0: they are read only once."""


@dataclass(frozen=True)
class ServiceOptions(ServiceLimits):
    """The settings of a service."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0: all addresses of this machine."""
    port: int = 8000
    """Port to listen on; 0: any free one."""
    keys: tuple[str, ...] = ()
    """API keys; empty: no key is needed."""
    origins: tuple[str, ...] = ()
    """Origins, such as https://example.com, whose pages may send requests from a browser; *: all."""
    log: bool = True
    """Log each request as a line of JSON on standard error."""

    def __post_init__(self) -> None:
        for name, least in NO_FEWER.items():
            if not least <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be a number, at least {least}")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}; it must be 0 (any free one) to 65535")
        if self.max_images > self.queue:
            raise ConfigError(f"max_images is {self.max_images}, more than the queue of {self.queue} takes; lower it")

    @property
    def max_held(self) -> int:
        """Most bytes of bodies held at the same time, of all requests together."""
        return 8 * self.max_body


@dataclass(frozen=True)
class ModelSource:
    """Where a model that is served comes from."""

    name: str
    """The model's name in requests."""
    path: str
    """Where its files are."""
    open: "Callable[[bool], Predictor]"
    """Loads it; called with whether that is done again since its files have changed. What several processes serve has to be picklable."""
    watched: bool = True
    """Whether the model is loaded again when its files change; a model that is already open isn't."""
