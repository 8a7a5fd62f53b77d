"""Tables as pandas DataFrames, if pandas is installed; it is imported when the first one is made."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vitreous.errors import ConfigError

if TYPE_CHECKING:
    import pandas


class Tabular(ABC):
    """A result with a table."""

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, Sequence[Any]]:
        """The table: named columns of equal length."""

    def to_pandas(self) -> "pandas.DataFrame":
        """Return `columns` as a pandas DataFrame; raises ConfigError if pandas is not installed."""
        return data_frame(self.columns)


def data_frame(columns: Mapping[str, Sequence[Any]]) -> "pandas.DataFrame":
    """Return named columns of equal length as a DataFrame; raises ConfigError if pandas is not installed."""
    try:
        import pandas
    except ImportError:
        raise ConfigError("data frames need pandas: pip install 'vitreous[data]'") from None
    return pandas.DataFrame(dict(columns))
