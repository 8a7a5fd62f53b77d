"""The studies by name. Imports no torch: a study's file is imported on demand."""

from importlib import import_module
from typing import TYPE_CHECKING

from vitreous.errors import UnknownName

if TYPE_CHECKING:
    from vitreous.studies.engine.study import Study

STUDIES = {
    "positions": ("vitreous.studies.positions", "which position embedding, and where (table 8)"),
    "pooling": ("vitreous.studies.pooling", "[class] token or mean over the patches (figure 9)"),
    "shape": ("vitreous.studies.shape", "deeper, wider, or smaller patches (figure 8)"),
    "data-scale": ("vitreous.studies.data_scale", "ViT against ResNet by pre-training data (figures 3 and 4)"),
    "resolution": (
        "vitreous.studies.resolution",
        "fine-tuning at a higher resolution, positions resized (section 3.2)",
    ),
    "inside": (
        "vitreous.studies.inside",
        "filters, positions and attention distance of a trained model (figures 7, 10, 11)",
    ),
    "compute": ("vitreous.studies.compute", "ViT, ResNet and hybrid at equal compute (figure 5)"),
    "axial": ("vitreous.studies.axial", "attention along rows and columns in turn (figure 13)"),
    "optimiser": ("vitreous.studies.optimiser", "Adam or SGD for pre-training a ResNet (table 7)"),
    "self-supervision": (
        "vitreous.studies.self_supervision",
        "masked patches and MAE against scratch and labels (B.1.2)",
    ),
    "family": ("vitreous.studies.family", "ViT, hybrid, ResNet, Swin, DeiT and EfficientNet at equal time"),
    "self-training": (
        "vitreous.studies.self_training",
        "images without labels: teacher, noise, rounds (Noisy Student)",
    ),
}
"""Name: module, question."""


def find(name: str) -> "Study":
    """Return the study with that name; raises UnknownName."""
    if name not in STUDIES:
        raise UnknownName("study", name, STUDIES)
    return import_module(STUDIES[name][0]).STUDY
