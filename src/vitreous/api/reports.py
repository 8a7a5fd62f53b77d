"""`vitreous.report`: redraw a run's page."""

from dataclasses import dataclass
from pathlib import Path

from vitreous.api.results import Result
from vitreous.reports.notebook import embed_page
from vitreous.reports.run.page import write_report


@dataclass(frozen=True, repr=False)
class ReportResult(Result):
    """A run's page."""

    path: Path
    """RUN/report.html."""

    def __str__(self) -> str:
        return f"report: {self.path}"

    def _repr_html_(self) -> str:
        """Return the page in its own frame."""
        return embed_page(self.path.read_text(encoding="utf-8"))


def report(run: str | Path) -> ReportResult:
    """Write a run's report.html again; the page is replaced completely, or stays unchanged.

    >>> vitreous.report("runs/photos-1").path                                            # doctest: +SKIP
    PosixPath('runs/photos-1/report.html')

    Args:
        run: the run folder, finished or not. The page says what can't be drawn (because the data is gone, for example).

    Raises:
        RunError: no run there. StorageError: the page can't be written.
    """
    return ReportResult(write_report(run))
