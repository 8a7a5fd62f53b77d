"""Requirements of parquet files: pyarrow, imported when it is used, and text in UTF-8."""

from vitreous.errors import ConfigError


def check_parquet(otherwise: str) -> None:
    """Raise ConfigError unless pyarrow can be imported; `otherwise` says what to do without it."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise ConfigError(f"parquet files need pyarrow: pip install 'vitreous[data]', or {otherwise}") from None


def replace_bytes(name: str) -> str:
    """Return a name in valid UTF-8; bytes that aren't text become U+FFFD."""
    return name.encode(errors="surrogateescape").decode(errors="replace")
