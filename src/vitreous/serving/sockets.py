"""The socket that a server listens on, and how many connections this process can hold."""

import errno
import ipaddress
import socket
from contextlib import suppress

from vitreous.errors import ConfigError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Names of this machine that no other machine can reach."""
MOST_CONNECTIONS = 16_384
BACKLOG = 2048
"""Number of connections that the system holds until they are accepted, at most."""
REASONS = {
    errno.EADDRINUSE: "port {port} on {host} is in use; choose another one (--port), or 0 for any free one",
    errno.EACCES: "port {port} needs administrator rights; choose 1024 or above (--port)",
    errno.EADDRNOTAVAIL: "{host} is not an address of this machine; choose 127.0.0.1 or 0.0.0.0 (--host)",
}


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address; port 0: any free port. Raises ConfigError."""
    if not 0 <= port <= 65535:
        raise ConfigError(f"port is {port}; it must be 0 (any free one) to 65535")
    try:
        family, *_, address = socket.getaddrinfo(
            strip_brackets(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # asyncio sets TCP_NODELAY only if the protocol is named; without it, answers wait 40 ms for the client's acknowledgement
        found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        said = "no host has such a name" if isinstance(error, UnicodeError) else error.strerror or error
        raise ConfigError(f"can't listen on {host[:80]!r}: {said}; choose 127.0.0.1 or 0.0.0.0 (--host)") from error
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        said = REASONS.get(error.errno or 0, "can't listen on {host}, port {port}: " + (error.strerror or str(error)))
        raise ConfigError(said.format(host=host, port=port)) from error
    found.set_inheritable(True)
    return found


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    name = strip_brackets(host)
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def format_url(host: str, listening: socket.socket) -> str:
    """Return the URL of a socket that `listen` returned."""
    name = strip_brackets(host)
    return f"http://{f'[{name}]' if ':' in name else name}:{listening.getsockname()[1]}"


def strip_brackets(host: str) -> str:
    """Return a host without the brackets that URLs put around IPv6 addresses."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def raise_file_limit() -> None:
    """Let this process and its children open as many files and connections as the system allows."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 2 * MOST_CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 2 * MOST_CONNECTIONS)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def count_connections() -> int:
    """Return how many simultaneous connections this process can hold, with files to spare."""
    try:
        import resource
    except ImportError:  # Windows
        return MOST_CONNECTIONS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, max(soft // 2, soft - BACKLOG - 256))
