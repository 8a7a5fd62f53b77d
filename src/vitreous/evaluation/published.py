"""Accuracies on ImageNet that models' authors published: each with what it was trained on and where it stands. No torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A published top-1 accuracy on ImageNet's 50,000 validation images."""

    model: str
    """As `vitreous.create` calls it."""
    top1: float
    """Percent."""
    trained: str
    """On what, and how."""
    image: int
    """Pixels per side at which it was measured; 0: the source says no single size."""
    source: str
    """The paper, by its arXiv number, with the place in it."""


VIT = "2010.11929"
DEIT = "DeiT, 2012.12877, and its authors' README"
NOISY = "Noisy Student, 1911.04252, its authors' README"
REVENGE = "DeiT-III, 2204.07118, and its authors' README"
AUGREG = "AugReg, 2106.10270"
PUBLISHED = (
    *(Published(name, top1, "ImageNet", 224, DEIT) for name, top1 in (("Ti/16", 72.2), ("S/16", 79.9), ("B/16", 81.8))),
    Published("B/16", 83.4, "ImageNet, distilled", 224, DEIT),
    *(
        Published(name, top1, "ImageNet, 3-Augment", 224, REVENGE)
        for name, top1 in (("S/16", 81.4), ("B/16", 83.8), ("L/16", 84.9), ("H/14", 85.2))
    ),
    *(Published(name, top1, "ImageNet", 384, f"{VIT}, table 5") for name, top1 in (("B/16", 77.91), ("L/16", 76.53))),
    Published("L/16", 85.30, "ImageNet-21k, then ImageNet", 512, f"{VIT}, table 2"),
    *(
        Published(name, top1, "JFT-300M, then ImageNet", image, f"{VIT}, table 2")
        for name, top1, image in (("L/16", 87.76, 512), ("H/14", 88.55, 518))
    ),
    *(
        Published(name, top1, "ImageNet-21k, then ImageNet", 384, AUGREG)
        for name, top1 in (
            ("Ti/16", 78.22), ("S/32", 79.58), ("S/16", 83.73), ("B/32", 83.59), ("B/16", 85.49), ("L/16", 85.59),
            ("R26+S/32", 83.85), ("R50+L/32", 85.99),
        )
    ),
    Published("R152x4", 81.3, "ImageNet", 0, "BiT, 1912.11370, table 2"),
    Published("R152x4", 87.54, "JFT-300M, then ImageNet", 0, f"{VIT}, table 2"),
    *(
        Published(f"Swin-{size}", top1, "ImageNet", 224, "2103.14030, table 1")
        for size, top1 in (("T", 81.3), ("S", 83.0), ("B", 83.5))
    ),
    *(
        Published(f"SwinV2-{size}", top1, "ImageNet", 256, "2111.09883's authors' repository")
        for size, top1 in (("T", 81.8), ("S", 83.7), ("B", 84.2))
    ),
    *(
        Published(f"EfficientNet-{size}", top1, "ImageNet", image, "1905.11946, table 2")
        for size, top1, image in (("B0", 77.1, 224), ("B7", 84.3, 600))
    ),
    *(
        Published(f"EfficientNet-{size}", top1, "ImageNet, JFT-300M unlabelled", image, NOISY)
        for size, top1, image in (("B7", 86.9, 0), ("L2", 88.2, 475), ("L2", 88.4, 0))
    ),
)  # fmt: skip
"""By model, the least training data first. What is not here is not known to us from its source."""


def find_published(model: str) -> tuple[Published, ...]:
    """Return what is published of a model, the most accurate last."""
    return tuple(sorted((one for one in PUBLISHED if one.model == model), key=lambda one: one.top1))
