"""`vitreous board`: a web page of all runs."""

from contextlib import suppress

from vitreous.cli.options.runs import Board
from vitreous.cli.parse import parse


def board(arguments: list[str]) -> int:
    """Run `vitreous board`."""
    options = parse(Board, arguments, "board")
    from vitreous.api.boards import board as serve

    served = serve(options.runs, host=options.host, port=options.port)
    print(f"{served}\nCtrl-C ends it", flush=True)
    with suppress(KeyboardInterrupt):
        served.wait()
    return 0
