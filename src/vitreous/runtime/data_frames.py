"""Tables as pandas frames, where pandas is installed: it is imported when the first one is made."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vitreous.errors import ConfigError

if TYPE_CHECKING:
    import pandas


def data_frame(columns: Mapping[str, Sequence[Any]]) -> "pandas.DataFrame":
    """Return columns of one length, by name, as a frame; raises ConfigError where pandas is not installed."""
    try:
        import pandas
    except ImportError:
        raise ConfigError("data frames need pandas: pip install 'vitreous[data]'") from None
    return pandas.DataFrame(dict(columns))
