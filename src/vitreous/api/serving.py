"""`vitreous.serve`: serve models over HTTP, with a web page."""

import logging
import os
import re
import stat
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitreous.api.loading import load
from vitreous.api.names import name_model
from vitreous.api.results import Result
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.errors import ConfigError
from vitreous.predictor import Predictor
from vitreous.runtime.packages import require_packages
from vitreous.serving.fingerprint import copy_model
from vitreous.serving.options import ModelSource, ServiceOptions
from vitreous.serving.sockets import format_url, is_loopback, listen, raise_file_limit
from vitreous.storage.presence import path_exists
from vitreous.weights.auto_weights import is_named, refuse_absent

if TYPE_CHECKING:
    import socket

    from vitreous.serving.server import Server

LOG = logging.getLogger("vitreous.serving")
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")
NAMED = re.compile(rf"({NAME.pattern})=(.+)", re.DOTALL)
"""A model with a name in front of it, as text."""
KEYS_VARIABLE = "VITREOUS_API_KEYS"
REMARK = re.compile(r"(^|\s)#.*")
LEAST_KEY = 16
"""Number of characters of an API key, at least."""


@dataclass(frozen=True, eq=False)
class ServiceResult(Result):
    """A service that answers until it is stopped."""

    url: str
    """The service's address."""
    models: tuple[str, ...]
    """The names of the models that it serves."""
    _server: Any = field(repr=False, default=None)
    _thread: threading.Thread | None = field(repr=False, default=None)

    def __str__(self) -> str:
        return f"serving     {', '.join(self.models)}\naddress     {self.url}"

    def _repr_html_(self) -> str:
        """Return the address as a link."""
        return f'<a href="{self.url}">{self.url}</a>'

    def stop(self) -> None:
        """Accept no further requests, answer those that were accepted, and stop."""
        if self._thread is not None:
            self._server.should_exit = True
            self._thread.join()

    def __enter__(self) -> "ServiceResult":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve(
    models: str | Path | Predictor | Sequence[str | Path] | Mapping[str, str | Path | Predictor],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    processes: int = 1,
    batch: int = 32,
    wait_ms: float = 2.0,
    queue: int = 256,
    timeout: float = 30.0,
    keys: str | Path | Sequence[str] | None = None,
    allow_origin: Sequence[str] = (),
    limits: Mapping[str, Any] | None = None,
    log: bool = False,
    block: bool = False,
    load_options: Mapping[str, Any] | None = None,
) -> ServiceResult:
    """Serve one or several models over HTTP, with a web page at the same address (docs/serving.md).

    >>> with vitreous.serve("runs/photos-1", port=0) as service:                         # doctest: +SKIP
    ...     httpx.post(f"{service.url}/v1/predict", files={"images": open("a.jpg", "rb")}).json()

    Args:
        models: what `vitreous.load` accepts or returns; or several of these; or models with names, as a mapping or as
            "NAME=MODEL". By default a model has its folder's name.
        host: the address to listen on; 0.0.0.0: all addresses of this machine.
        port: the port to listen on; 0: any free one.
        processes: number of processes that share the port, each with its own copy of the models.
        batch: most images in one pass through a model.
        wait_ms: longest time that an image waits for others that are being decoded, in milliseconds.
        queue: most images that wait for a model's answer; more are refused with 429.
        timeout: seconds after which a request fails with 503.
        keys: API keys, or the file that holds them, one per line; None: the keys in $VITREOUS_API_KEYS. Without any, no
            key is needed.
        allow_origin: origins, such as https://example.com, whose pages may send requests from a browser.
        limits: any of `ServiceLimits`, such as read_timeout, max_body, max_images, max_pixels, reload_every.
        log: log each request as a line of JSON on standard error.
        block: print the address on standard error, and return only when a signal or Ctrl-C has ended the service;
            otherwise it runs in a thread until `.stop()`.
        load_options: how the models are loaded, as for `vitreous.load`: device, engine, precision, labels, ...

    Raises:
        ConfigError: a port in use, two models with one name, a setting out of range, keys that anyone can read, or a
            missing package. CheckpointError: a model that can't be loaded.
    """
    check_installed()
    found = read_keys(keys)
    origins = tuple(check_origin(one) for one in allow_origin)
    how = {
        "processes": processes,
        "batch": batch,
        "wait_ms": wait_ms,
        "queue": queue,
        "timeout": timeout,
        **(limits or {}),
    }
    options = ServiceOptions(host, port, keys=found, origins=origins, log=log, **how)
    sources = name_sources(models, dict(load_options or {}))
    if options.processes > 1 and not block:
        raise ConfigError("several processes need block=True, since the main thread starts and ends them")
    listening = listen(host, port)
    result = ServiceResult(format_url(host, listening), tuple(one.name for one in sources))
    try:
        return run(sources, options, listening, result) if block else start(sources, options, listening, result)
    finally:
        if block:
            listening.close()


def check_installed() -> None:
    """Raise ConfigError unless the packages for serving are installed."""
    require_packages(("fastapi", "uvicorn", "python_multipart", "prometheus_client"), "serving", "serve")


def run(
    sources: list[ModelSource], options: ServiceOptions, listening: "socket.socket", result: ServiceResult
) -> ServiceResult:
    """Serve until a signal ends it."""
    from vitreous.serving.server import Server, set_up_logs
    from vitreous.serving.supervisor import supervise

    set_up_logs(options.log)
    raise_file_limit()
    if not is_loopback(options.host) and not options.keys:
        LOG.warning(
            "anyone who can reach this address may use the service; --keys FILE demands a key, --host 127.0.0.1 restricts it to this machine"
        )
    LOG.info("listening", extra={"facts": {"address": result.url}})
    sys.stderr.write(f"serving at  {result.url}   (Ctrl-C ends it)\n")
    sys.stderr.flush()
    with suppress(KeyboardInterrupt):  # before the service handles signals itself, and after it has ended
        if options.processes > 1:
            supervise((sources, options), listening)
        else:
            run_alone(Server(sources, options), listening)
    return result


def run_alone(server: "Server", listening: "socket.socket") -> None:
    """Serve from this process; raises the error that kept its models from answering."""
    try:
        server.run([listening])
    finally:
        if server.failure is not None:
            raise server.failure


def start(
    sources: list[ModelSource], options: ServiceOptions, listening: "socket.socket", result: ServiceResult
) -> ServiceResult:
    """Serve from a thread; return once the models answer. Raises CheckpointError."""
    from vitreous.serving.server import Server, set_up_logs

    set_up_logs(options.log)
    server = Server(sources, options)
    thread = threading.Thread(target=server.run, args=([listening],), name="service", daemon=True)
    thread.start()
    wait_until_warm(server, thread)
    return ServiceResult(result.url, result.models, server, thread)


def wait_until_warm(server: "Server", thread: threading.Thread) -> None:
    """Return once a server's models answer; raises the error that kept them from answering."""
    while thread.is_alive() and not (server.started and server.service.models.warm):
        thread.join(0.02)
    if server.failure is not None:
        thread.join()
        raise server.failure


def name_sources(models: Any, how: dict[str, Any]) -> list[ModelSource]:
    """Return where each model comes from, under its name; raises ConfigError, and CheckpointError if there is
    nothing."""
    if isinstance(models, (str, Path, Predictor)):
        models = [models]
    if isinstance(models, Mapping):
        pairs = [(str(name), model) for name, model in models.items()]
    else:
        pairs = [split_name(model) for model in models]
    if not pairs:
        raise ConfigError("name at least one model")
    found: dict[str, ModelSource] = {}
    for name, model in pairs:
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} can't be a model's name here; give it a name of letters, digits, . _ -: NAME={model}"
            )
        if name in found:
            raise ConfigError(f"two models are called {name!r}; give them names: A={found[name].path} B={model}")
        if not isinstance(model, Predictor) and not is_named(str(model)):
            refuse_absent(str(model))
        if isinstance(model, Predictor):
            found[name] = ModelSource(name, model.path, partial(_copy, model), watched=False)
        else:
            found[name] = ModelSource(name, str(model), partial(open_sealed, str(model), how))
    return list(found.values())


def split_name(model: Any) -> tuple[str, Any]:
    """Return a model's name and the model itself, from "NAME=MODEL" unless that is an existing path; else the name is
    its folder's."""
    if isinstance(model, str) and not path_exists(Path(model)) and (match := NAMED.fullmatch(model)):
        return match[1], match[2]
    return name_model(str(getattr(model, "path", model))), model


def open_sealed(path: str, how: dict[str, Any], again: bool = False) -> Predictor:
    """Load a model that only the service uses.

    Its weights are copied: if they were mapped, a truncated file would kill the process. `again`: its files have just changed and may
    be written over while they are read, so they are copied first.
    """
    if again:
        with copy_model(path) as private:
            found = open_sealed(private, how, again=False)
        found.path = path
        return found
    found = load(path, progress=False, **how)
    if not isinstance(found.folder, ExportedFolder):
        for value in (*found.model.parameters(), *found.model.buffers()):
            if value.device.type == "cpu":
                value.data = value.data.clone()
    found.seal()
    return found


def _copy(model: Predictor, again: bool = False) -> Predictor:
    """Return a copy of the caller's model, whose limits the service can change."""
    return copy(model)


def check_origin(origin: str) -> str:
    """Return an origin in its standard form; raises ConfigError for anything else."""
    if not re.fullmatch(r"https?://([\w.-]+|\[[\da-fA-F:.]+\])(:\d+)?|\*", origin):
        raise ConfigError(
            f"{origin!r} is not an origin; expected one such as https://example.com, without a path, or * for all"
        )
    scheme = origin.partition(":")[0].lower()
    return origin.lower().removesuffix({"http": ":80", "https": ":443"}.get(scheme, ""))  # browsers leave these out


def read_keys(keys: str | Path | Sequence[str] | None) -> tuple[str, ...]:
    """Return API keys, from a file that others can't read or from the environment; raises ConfigError."""
    if keys is None:
        where, given = f"${KEYS_VARIABLE}", os.environ.get(KEYS_VARIABLE)
        found = (given or "").replace(",", " ").split()
        if given is not None and not found:
            raise ConfigError(f"{where} is empty; unset it for a service without keys, or put keys into it")
    elif isinstance(keys, (str, Path)):
        found, where = read_key_file(Path(keys)), str(keys)
    else:
        found, where = list(keys), "keys"
    for number, key in enumerate(found, 1):
        if len(key) < LEAST_KEY or not key.isascii() or not key.isprintable():
            raise ConfigError(
                f"key {number} of {where} is too short or not plain text; give {LEAST_KEY} or more letters and digits, "
                "for example from: openssl rand -hex 32"
            )
    return tuple(found)


def read_key_file(path: Path) -> list[str]:
    """Return the keys in a file, one per line; # at the beginning of a line or after a space begins a comment. Raises
    ConfigError."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ConfigError(f"{path} is not a file; give one with an API key on each line")
        if mode & 0o007:
            raise ConfigError(f"{path} can be read or changed by everyone on this machine; first: chmod 600 {path}")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"can't read the keys in {path}: {getattr(error, 'strerror', None) or 'it is not text'}"
        ) from error
    found = [key for line in lines if (key := REMARK.sub("", line).strip())]
    if not found:
        raise ConfigError(f"{path} holds no key; write one on each line, for example from: openssl rand -hex 32")
    return found
