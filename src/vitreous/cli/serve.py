"""`vitreous serve`: serve models over HTTP."""

import re
import sys
from dataclasses import fields

from vitreous.cli.load_model import keywords
from vitreous.cli.options.serving import Serve
from vitreous.cli.parse import parse
from vitreous.errors import ConfigError
from vitreous.serving.options import ServiceLimits

NAMED = re.compile(r"([A-Za-z0-9][\w.-]{0,63})=(.+)", re.DOTALL)
HOW = ("device", "precision", "engine", "threshold", "decode")


def serve(arguments: list[str]) -> int:
    """Run `vitreous serve`."""
    options = parse(Serve, arguments, "serve")
    if not options.models:
        raise ConfigError("name a model: vitreous serve RUN")
    from vitreous.api.serving import serve as answer

    limits = {one.name: getattr(options, one.name) for one in fields(ServiceLimits)}
    load = {name: getattr(options, name) for name in HOW} | keywords(options.load)
    print(f"serving at  http://{options.host}:{options.port or '...'}   (Ctrl-C ends it)", file=sys.stderr)
    answer(
        name_models(options.models), host=options.host, port=options.port, keys=options.keys, allow_origin=options.allow_origin, limits=limits, log=options.log, block=True,
        load_options=load,
    )  # fmt: skip
    return 0


def name_models(given: tuple[str, ...]) -> dict[str, str]:
    """Return models under the names that were given or, where none was, those of their folders; raises ConfigError."""
    from vitreous.api.names import name_model

    found: dict[str, str] = {}
    for one in given:
        match = NAMED.fullmatch(one)
        name, path = (match[1], match[2]) if match else (name_model(one), one)
        if name in found:
            raise ConfigError(f"two models are called {name!r}; give them names: A={found[name]} B={path}")
        found[name] = path
    return found
