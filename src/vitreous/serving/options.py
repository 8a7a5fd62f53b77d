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
"""The smallest value of each number."""


@dataclass(frozen=True, kw_only=True)
class ServiceLimits:
    """How much a service takes, and how it shares its work."""

    processes: int = 1
    """Processes that share the port, each with its own copy of the models; one that dies is replaced."""
    batch: int = 32
    """Most images in one pass through a model."""
    wait_ms: float = 2.0
    """Longest that an image waits for others, which are being decoded, to share its pass, in milliseconds."""
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
    reload_every: float = 2.0
    """Seconds between two looks at whether a model's files have changed; 0: they are read once."""


@dataclass(frozen=True)
class ServiceOptions(ServiceLimits):
    """What a service may be asked for, and how much of it."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0: every one of this machine's."""
    port: int = 8000
    """0: any free one."""
    keys: tuple[str, ...] = ()
    """API keys; empty: no key is needed."""
    origins: tuple[str, ...] = ()
    """Origins, such as https://example.com, whose pages may send requests from a browser; *: all."""
    log: bool = True
    """Write a line of JSON to standard error for each request."""

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
        """Most bytes of bodies that are held at once, of all requests together."""
        return 8 * self.max_body


@dataclass(frozen=True)
class ModelSource:
    """Where a model that is served comes from."""

    name: str
    """What requests call it."""
    path: str
    """Where its files are."""
    open: "Callable[[bool], Predictor]"
    """Loads it; called with whether that is done again since its files have changed. What several processes serve has to be picklable."""
    watched: bool = True
    """Whether it is loaded again when its files change; a model that is open already isn't."""
