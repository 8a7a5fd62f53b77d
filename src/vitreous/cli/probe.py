"""The protocols of `vitreous evaluate` that measure frozen features: few-shot, linear, knn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from vitreous.cli.beside import beside
from vitreous.cli.load_model import open_other
from vitreous.cli.options.commands import Evaluate
from vitreous.cli.options.loading import LoadOther
from vitreous.cli.options.probes import Probe
from vitreous.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from vitreous.data.dataset import Source
    from vitreous.evaluation.probes.features import FeatureOptions, Features
    from vitreous.evaluation.probes.knn import KNNOptions
    from vitreous.evaluation.probes.linear import LinearOptions
    from vitreous.reports.blocks import Part, Table
    from vitreous.training.reporter import Reporter
    from vitreous.weights.model_folder import ModelFolder

Options = Evaluate | Probe | LoadOther
PROBES = ("few-shot", "linear", "knn")
BELONGS = {
    "shots": ("few-shot",),
    "seeds": ("few-shot",),
    "l2": ("few-shot", "linear"),
    "solver": ("linear",),
    "rates": ("linear",),
    "k": ("knn",),
    "metric": ("knn",),
    "votes": ("knn",),
}
"""The protocols that read an option of Probe; all probes read the others."""
OF_ACCURACY = ("corruptions", "severities", "speed")
"""Options of Evaluate that accuracy alone reads."""


@dataclass(frozen=True)
class Measured:
    """What a probe found, ready to be shown."""

    headline: str
    """The result in a line, or "" where the table says it."""
    table: "Table"
    """For the terminal."""
    parts: "Sequence[Part]"
    data: dict[str, Any]
    logits: "np.ndarray"
    """(test image, class of the training part): the probe's, or 1 for the class that it decided on."""
    lines: "Sequence[str]" = ()
    """More for the terminal."""


def check_options(options: Evaluate) -> None:
    """Raise ConfigError for an option that the protocol would not read."""
    given = [(name, BELONGS.get(name, PROBES)) for name in changed(options.probe, Probe())]
    given += [(name, ("accuracy",)) for name in changed(options, Evaluate("")) if name in OF_ACCURACY]
    for name, readers in given:
        if options.protocol not in readers:
            raise ConfigError(
                f"{written(name)} is for --protocol {' or '.join(readers)}, not for {options.protocol}; leave it out"
            )
    if options.protocol == "linear" and options.probe.solver == "sgd" and options.probe.l2:
        raise ConfigError("--l2 is for --solver lbfgs; with sgd give --rates")
    if options.protocol == "linear" and options.probe.solver == "lbfgs" and options.probe.rates:
        raise ConfigError("--rates are for --solver sgd; with lbfgs give --l2")


def written(name: str) -> str:
    """Return an option as it is typed to change what is so by default."""
    return f"--no-{name}" if name in ("cache", "speed") else f"--{name.replace('_', '-')}"


def changed(given: Options, standard: Options) -> list[str]:
    """Return the names of the settings that are not as in `standard`."""
    return [one.name for one in fields(given) if getattr(given, one.name) != getattr(standard, one.name)]


def probe(options: Evaluate, folder: "ModelFolder", parts: "tuple[Source, Source]", display: "Reporter") -> Measured:
    """Compute the features of the training and the test part, and measure them; another model's too, if there is one.

    Raises:
        UserError: parts that don't fit the probe (said before any image passes through the model), or settings.
    """
    from vitreous.evaluation.probes.features import check_parts
    from vitreous.evaluation.probes.layers import find_layer

    check_parts(*parts)
    other = open_other(options)
    if other is not None:
        find_layer(other.model, options.probe.layer)
    measure = {"few-shot": few_shot, "linear": linear, "knn": knn}[options.protocol](options.probe, parts[0])
    vectors = both_features(options, folder, parts, display)
    display.phase(f"measuring: {options.protocol}")
    found = measure(*vectors)
    if other is None:
        return found
    display.phase(f"the same of {options.compare}")
    theirs = measure(*both_features(options, other, parts, display))
    return beside(options, (found, theirs), vectors, (folder, parts[1]))


def both_features(
    options: Evaluate, folder: "ModelFolder", parts: "tuple[Source, Source]", display: "Reporter"
) -> "tuple[Features, Features]":
    """Compute a model's features of the training and the test part."""
    from vitreous.evaluation.probes.features import features

    how, found = feature_options(options), []
    for name, source in zip(("training", "test"), parts, strict=True):
        display.phase(f"features of {len(source):,} {name} images")
        found.append(features(folder, source, how, lambda done, total: display.progress(done, total, {})))
    return found[0], found[1]


def feature_options(options: Evaluate) -> "FeatureOptions":
    """Return how features are to be computed."""
    from vitreous.evaluation.probes.features import FeatureOptions

    asked = options.probe
    return FeatureOptions(asked.layer, asked.precision, options.batch, options.device, cache=asked.cache)


Measure = Callable[["Features", "Features"], Measured]


def few_shot(options: Probe, train: "Source") -> Measure:
    """Check the settings against the training part; return what measures."""
    from vitreous.evaluation.probes import few_shot as room
    from vitreous.evaluation.probes.least_squares import check_l2
    from vitreous.reports.evaluation.probes import decisions, few_shot_data, few_shot_parts, few_shot_table

    strengths = grid(options, room.L2_GRID) or (room.L2,)
    check_l2(strengths)
    room.check_shots(train, options.shots, options.seeds)

    def measure(train: "Features", test: "Features") -> Measured:
        found = room.few_shot(train, test, None, options.shots, strengths, options.seeds)
        shown = few_shot_table(found), few_shot_parts(found, train, test), few_shot_data(found)
        return Measured("", *shown, decisions(found.shots[-1].predicted[0], train.classes))

    return measure


def linear(options: Probe, train: "Source") -> Measure:
    """Check the settings; return what measures."""
    from vitreous.evaluation.probes import linear as room
    from vitreous.reports.evaluation.probes import headline, linear_data, linear_parts, sweep_table

    how = linear_options(options)
    room.check(how)

    def measure(train: "Features", test: "Features") -> Measured:
        found = room.linear_probe(train, test, how)
        return Measured(
            headline(found), sweep_table(found), linear_parts(found, train, test), linear_data(found), found.logits
        )

    return measure


def knn(options: Probe, train: "Source") -> Measure:
    """Check the settings against the training part; return what measures."""
    from vitreous.evaluation.probes import knn as room
    from vitreous.reports.evaluation.probes import decisions, headline, knn_data, knn_parts, knn_table

    how = knn_options(options)
    room.check(how, len(train))

    def measure(train: "Features", test: "Features") -> Measured:
        found = room.knn(train, test, how)
        shown = knn_table(found), knn_parts(found, how, train, test), knn_data(found)
        return Measured(headline(found), *shown, decisions(found.predicted, train.classes))

    return measure


def linear_options(options: Probe) -> "LinearOptions":
    """Return the solver that was asked for, with its grid."""
    from vitreous.evaluation.probes.linear import L2_GRID, LinearOptions

    return LinearOptions(options.solver, options.rates if options.solver == "sgd" else grid(options, L2_GRID))


def knn_options(options: Probe) -> "KNNOptions":
    """Return how neighbours are found and vote; unless said otherwise by temperature where they are near by cosine."""
    from vitreous.evaluation.probes.knn import KNNOptions

    votes = options.votes or ("temperature" if options.metric == "cosine" else "uniform")
    return KNNOptions(options.k, options.metric, votes)


def grid(options: Probe, usual: tuple[float, ...]) -> tuple[float, ...]:
    """Return the strengths of regularisation that were given, with the usual grid where that was asked for."""
    given: list[float] = []
    for one in options.l2:
        given += usual if isinstance(one, str) else (one,)
    return tuple(dict.fromkeys(given))


def probe_sources(
    options: Evaluate, folder: "ModelFolder", display: "Reporter", of_run: "Callable[[], Any]"
) -> "tuple[Source, Source]":
    """Return the training and the test part: those that are named, or those of the model's run.

    Raises:
        DataError: data that can't be used, or none is named and the model belongs to no run.
    """
    from vitreous.data.config import DataConfig
    from vitreous.data.dataset import open_dataset, open_source, open_training

    display.phase("opening the data")
    if options.probe.train is not None:
        train = open_training(options.probe.train, folder.decode, options.broken)
        named = options.data
        test = of_run().validation if named is None else open_source(named, None, folder.decode, options.broken)
        if train.fingerprint == test.fingerprint:
            display.message("note: the test images are the training images; the accuracy flatters the model")
        return train, test
    if options.data is None:
        dataset = of_run()
        if folder.classes:
            display.message(
                "note: the model has learned the labels of the images that the probe learns from and chooses its setting on; "
                "for others: --train DATA"
            )
    else:
        config = DataConfig(options.data, broken=options.broken)
        dataset = open_dataset(config, folder.decode, lambda done, total: display.progress(done, total, {}))
    if dataset.report.duplicates:
        count = len(dataset.report.duplicates)
        display.message(f"note: {count:,} test images are also among the training images")
    return dataset.train, dataset.validation
