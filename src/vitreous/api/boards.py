"""`vitreous.board`: a web page of all runs under a folder."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from vitreous.errors import ConfigError
from vitreous.runtime.display import Shown

if TYPE_CHECKING:
    from vitreous.serving.board.server import BoardServer


@dataclass(frozen=True, repr=False)
class BoardResult(Shown):
    """A web page of runs that is being served."""

    url: str
    """Its address."""
    folder: Path
    """Where its runs are."""
    server: "BoardServer" = field(repr=False)

    def __str__(self) -> str:
        return f"{self.url}   (the runs in {self.folder})"

    def _repr_html_(self) -> str:
        """Return a link to it."""
        return Markup('<a href="{}" target="_blank">{}</a>').format(self.url, self)

    def wait(self) -> None:
        """Wait until it is stopped; Ctrl-C stops it."""
        self.server.wait()

    def stop(self) -> None:
        """Stop serving."""
        self.server.stop()


def board(runs: str | Path = "runs", *, host: str = "127.0.0.1", port: int = 8100) -> BoardResult:
    """Serve a web page that shows all runs under a folder and follows those in training. It only reads files.

    The page is served in the background, until `stop` or the end of the process.

    >>> vitreous.board("runs").url                                                       # doctest: +SKIP
    'http://127.0.0.1:8100'

    Args:
        runs: a folder of run folders, at any depth. Links in it are not followed.
        host: address to listen on; by default only this machine can reach it.
        port: the port to listen on; 0: any free one.

    Raises:
        ConfigError: no such folder, a port in use, or FastAPI and uvicorn are missing.
    """
    try:
        from vitreous.serving.board.folder import Folder
        from vitreous.serving.board.server import BoardServer
        from vitreous.serving.sockets import format_url, listen
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("vitreous"):
            raise
        raise ConfigError(f"a board needs {error.name}; install it with: pip install 'vitreous[serve]'") from error
    folder = Folder(runs)
    listening = listen(host, port)
    return BoardResult(format_url(host, listening), folder.path, BoardServer(folder, listening, host))
