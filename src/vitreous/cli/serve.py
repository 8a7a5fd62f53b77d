"""`vitreous serve`: serve models over HTTP."""

from dataclasses import fields

from vitreous.cli.load_model import keywords
from vitreous.cli.options.serving import Serve
from vitreous.cli.parse import parse
from vitreous.errors import ConfigError
from vitreous.serving.options import ServiceLimits

HOW = ("device", "precision", "engine", "compile", "threshold", "decode")


def serve(arguments: list[str]) -> int:
    """Run `vitreous serve`."""
    options = parse(Serve, arguments, "serve")
    if not options.models:
        raise ConfigError("name a model: vitreous serve RUN")
    from vitreous.api.serving import serve as answer

    limits = {one.name: getattr(options, one.name) for one in fields(ServiceLimits)}
    load = {name: getattr(options, name) for name in HOW} | keywords(options.load)
    answer(
        options.models, host=options.host, port=options.port, keys=options.keys, allow_origin=options.allow_origin, limits=limits, log=options.log, block=True,
        load_options=load,
    )  # fmt: skip
    return 0
