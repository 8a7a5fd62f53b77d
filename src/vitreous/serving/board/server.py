"""Serve a board until it is stopped."""

import logging
import socket
import threading

import uvicorn

from vitreous.serving.board.app import build_app
from vitreous.serving.board.folder import Folder
from vitreous.serving.sockets import LOOPBACK, is_loopback, strip_brackets


class BoardServer:
    """Answers on a socket, in a thread of its own, until `stop`.

    Args:
        folder: of the runs.
        listening: bound by `listen`.
        host: that it was bound to. A board on this machine alone answers to no other name, so that no web page can
            have its own name lead here.
    """

    def __init__(self, folder: Folder, listening: socket.socket, host: str) -> None:
        name = strip_brackets(host)
        app = build_app(folder, tuple(dict.fromkeys((*LOOPBACK, name))) if is_loopback(name) else None)
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, ws="none", timeout_graceful_shutdown=1
        )
        self._server, self._listening = uvicorn.Server(config), listening
        self._thread = threading.Thread(target=self._server.run, args=([listening],), name="board", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when the board is stopped, by another thread or an exception such as Ctrl-C's in this one."""
        try:
            while self._thread.is_alive():
                self._thread.join(0.5)
        finally:
            self.stop()

    def stop(self) -> None:
        """Answer no more; stopping twice is fine."""
        self._server.should_exit = True
        self._thread.join()
        self._listening.close()
