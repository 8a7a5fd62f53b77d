"""Tables as pandas frames, where pandas is installed; it is imported when the first one is made."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vitreous.errors import ConfigError

if TYPE_CHECKING:
    import pandas


def data_frame(columns: Mapping[str, Sequence[Any]]) -> "pandas.DataFrame":
    """Return named columns of equal length as a frame; raises ConfigError if pandas is not installed."""
    try:
        import pandas
    except ImportError:
        raise ConfigError("data frames need pandas: pip install 'vitreous[data]'") from None
    return pandas.DataFrame(dict(columns))
