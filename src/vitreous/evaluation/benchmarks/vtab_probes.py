"""The probes for VTAB-1k: settings chosen on the benchmark's own 200 images, or on all 1,000 in turn."""

import numpy as np

from vitreous.evaluation.benchmarks.vtab import Probe
from vitreous.evaluation.benchmarks.vtab_files import MORE
from vitreous.evaluation.probes import few_shot as few
from vitreous.evaluation.probes import knn as near
from vitreous.evaluation.probes import linear as straight
from vitreous.evaluation.probes.features import Features
from vitreous.evaluation.probes.least_squares import check_l2
from vitreous.evaluation.probes.options import ProbeOptions


def check_images(kind: str, options: ProbeOptions, count: int) -> None:
    """Raise ConfigError if a probe needs more training images than a task has."""
    if kind == "knn":
        near.check(options.knn(), count)


def vtab_probe(kind: str, options: ProbeOptions) -> Probe:
    """Return the function that learns a task and is measured on it.

    l2 and rates are chosen on the benchmark's own 200 images; k on all 1,000, leaving each out in turn.

    Args:
        kind: few-shot (on all 1,000 images), linear or knn.
        options: the probe's settings.

    Raises:
        ConfigError: settings that can't be satisfied.
    """
    strengths = sorted(options.strengths())
    lines, nearest = options.linear(), options.knn()
    check_l2(strengths)
    straight.check(lines)
    near.check(nearest, MORE)

    def least_squares(train: Features, test: Features, held: np.ndarray) -> tuple[float, str]:
        strength = strengths[0] if len(strengths) == 1 else few.choose_strength(train, strengths, held)
        found = few.few_shot(train, test, None, ("all",), strength, 1).at("all")
        return found.mean, f"l2 {strength:g}"

    def linear(train: Features, test: Features, held: np.ndarray) -> tuple[float, str]:
        found = straight.linear_probe(train, test, lines, held)
        return found.accuracy, f"{'rate' if options.solver == 'sgd' else 'l2'} {found.chosen:g}"

    def neighbours(train: Features, test: Features, held: np.ndarray) -> tuple[float, str]:
        found = near.knn(train, test, nearest)
        return found.accuracy, f"k {found.chosen}"

    return {"few-shot": least_squares, "linear": linear, "knn": neighbours}[kind]
