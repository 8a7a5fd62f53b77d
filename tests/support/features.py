"""Features without a model: clouds of points around the classes' centres."""

import numpy as np

from vitreous.evaluation.probes.features import Features


def clouds(classes=4, each=30, width=12, spread=2.0, seed=0, dtype=np.float32):
    """Return features of `each` images of each class, shuffled; the same classes' centres for every seed."""
    centres = np.random.default_rng(99).normal(size=(classes, width)) * np.linspace(0.1, 5, width)
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(classes), each))
    vectors = centres[labels] + spread * rng.normal(size=(len(labels), width)) + np.linspace(-30, 30, width)
    names = tuple(f"image {seed}-{number}" for number in range(len(labels)))
    return Features(vectors.astype(dtype), labels.astype(np.int64), names, tuple(f"c{n}" for n in range(classes)))
