"""The settings of every probe of frozen features, and which probe reads which. Imports no torch."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from vitreous.errors import ConfigError, UnknownName
from vitreous.settings import check_settings

if TYPE_CHECKING:
    from vitreous.evaluation.probes.features import FeatureOptions
    from vitreous.evaluation.probes.knn import KNNOptions
    from vitreous.evaluation.probes.linear import LinearOptions

PROBES = ("few-shot", "linear", "knn")
READERS = {
    "precision": ("accuracy", *PROBES),
    "shots": ("few-shot",),
    "seeds": ("few-shot",),
    "l2": ("few-shot", "linear"),
    "solver": ("linear",),
    "rates": ("linear",),
    "k": ("knn",),
    "metric": ("knn",),
    "votes": ("knn",),
}
"""The protocols that read a setting; all probes read the settings that are not listed."""


@dataclass(frozen=True)
class ProbeOptions:
    """How frozen features are measured; for the protocols few-shot, linear and knn."""

    layer: str = "features"
    """Which features: the head's input, mean (of the patches), norm, pooled, block.5, block.5:class, stage.2, ..."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "fp32"
    """Precision of the computation. bf16 is faster on hardware that multiplies it fast; auto uses it there."""
    cache: bool = True
    """Keep features on disk, in ~/.cache/vitreous/features or below $VITREOUS_CACHE, and reuse them."""
    shots: tuple[int | Literal["all"], ...] = (1, 5, 10, 25)
    """few-shot: training images per class; all: every one."""
    seeds: int = 3
    """few-shot: number of draws of training images whose results are averaged."""
    l2: tuple[float | Literal["grid"], ...] = ()
    """few-shot, linear: strength of regularisation; of several values, or of the usual grid ("grid"), the one that is
    best on held-out training images is chosen."""
    solver: Literal["lbfgs", "sgd"] = "lbfgs"
    """linear: L-BFGS to the optimum, or stochastic gradient descent."""
    rates: tuple[float, ...] = ()
    """linear with sgd: learning rates, of which one is chosen in the same way; 0.001 to 1 by default."""
    k: tuple[int, ...] = ()
    """knn: numbers of neighbours, of which the best on the training images is chosen. By default 1, 5, 10 and 20."""
    metric: Literal["cosine", "euclid"] = "cosine"
    """knn: the measure of distance."""
    votes: Literal["temperature", "uniform"] | None = None
    """knn: weight neighbours by exp(similarity / 0.07) (the default with cosine), or all equally."""

    def __post_init__(self) -> None:
        check_settings(self)

    def list_changed(self) -> list[str]:
        """Return the names of the settings that differ from their defaults."""
        return [one.name for one in fields(self) if getattr(self, one.name) != one.default]

    def features(self, batch: int, device: str) -> "FeatureOptions":
        """Return the settings for computing features."""
        from vitreous.evaluation.probes.features import FeatureOptions

        return FeatureOptions(self.layer, self.precision, batch, device, cache=self.cache)

    def grid(self, usual: tuple[float, ...]) -> tuple[float, ...]:
        """Return the given strengths of regularisation, with the usual grid in place of "grid"."""
        given: list[float] = []
        for one in self.l2:
            given += usual if isinstance(one, str) else (one,)
        return tuple(dict.fromkeys(given))

    def strengths(self) -> tuple[float, ...]:
        """Return few-shot's strengths of regularisation; if there is only one, nothing has to be chosen."""
        from vitreous.evaluation.probes.few_shot import L2, L2_GRID

        return self.grid(L2_GRID) or (L2,)

    def linear(self) -> "LinearOptions":
        """Return the requested solver, with its grid."""
        from vitreous.evaluation.probes.linear import L2_GRID, LinearOptions

        return LinearOptions(self.solver, self.rates if self.solver == "sgd" else self.grid(L2_GRID))

    def knn(self) -> "KNNOptions":
        """Return how neighbours are found and how they vote; with cosine, by default with a temperature."""
        from vitreous.evaluation.probes.knn import KNNOptions

        votes = self.votes or ("temperature" if self.metric == "cosine" else "uniform")
        return KNNOptions(self.k, self.metric, votes)


def check_read(kind: str, options: ProbeOptions) -> None:
    """Raise UnknownName for an unknown probe, and ConfigError for a setting that it would not read."""
    if kind not in PROBES:
        raise UnknownName("kind of probe", kind, PROBES)
    for name in options.list_changed():
        readers = READERS.get(name, PROBES)
        if kind not in readers:
            raise ConfigError(f"{name} is for a probe of kind {' or '.join(readers)}, not for {kind}; leave it out")
    check_solver(kind, options)


def check_solver(kind: str, options: ProbeOptions) -> None:
    """Raise ConfigError for a setting of the other solver."""
    if kind == "linear" and options.solver == "sgd" and options.l2:
        raise ConfigError("l2 is for the solver lbfgs; with sgd give rates")
    if kind == "linear" and options.solver == "lbfgs" and options.rates:
        raise ConfigError("rates are for the solver sgd; with lbfgs give l2")
