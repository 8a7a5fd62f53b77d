"""Optional packages: whether they are installed, and what to do if not."""

from collections.abc import Iterable
from importlib.util import find_spec

from vitreous.errors import ConfigError


def is_installed(name: str) -> bool:
    """Return whether a package, named as it is imported, is installed; it is not imported."""
    return find_spec(name) is not None


def find_version(name: str) -> str:
    """Return an installed package's version; the package is named as it is imported, which may differ from its
    distribution (onnxruntime-gpu contains onnxruntime). Empty if it has none."""
    from importlib.metadata import PackageNotFoundError, packages_distributions, version

    try:
        return version(name)
    except PackageNotFoundError:
        return ", ".join(f"{one} {version(one)}" for one in sorted(packages_distributions().get(name, ())))


def require_packages(names: Iterable[str], purpose: str, extra: str) -> None:
    """Raise ConfigError unless all packages are installed; nothing is imported.

    Args:
        names: as they are imported.
        purpose: what needs them, the start of the message, such as "serving".
        extra: the extra of vitreous that installs them.
    """
    missing = [name for name in names if not is_installed(name)]
    if missing:
        raise ConfigError(f"{purpose} needs {', '.join(missing)}, not installed: pip install 'vitreous[{extra}]'")
