"""facebookresearch's own files of I-JEPA and MSN: a ViT with timm's names, as the target encoder of self-supervised training.

Without the other tensors of training such an encoder can't be distinguished from timm's (I-JEPA's from those that pool
by the mean), and is read as timm's; --as ijepa or msn uses the authors' resize rule and normalisation.
"""

from dataclasses import replace

from vitreous.weights.families.base import Family, ForeignModel
from vitreous.weights.families.meta import is_encoder, read_as_timm, simplify_names
from vitreous.weights.families.timm import vit
from vitreous.weights.files import Weights

PROJECTION = (r"^fc\.",)
"""MSN's projection head, which no classifier needs."""


def recognise_ijepa(weights: Weights) -> float:
    """An encoder without [class] that a file of I-JEPA's training kept beside its predictor."""
    tensors = simplify_names(weights.tensors)
    beside = any("target_encoder" in note and "predictor" in note for note in weights.notes)
    return 1.5 if beside and is_encoder(tensors) and "cls_token" not in tensors else 0.0


def interpret_ijepa(weights: Weights, name: str | None) -> ForeignModel:
    """Read I-JEPA's encoder; the mean over patches represents the image, as in the authors' probes."""
    return replace(read_as_timm(weights, simplify_names(weights.tensors), (), "ijepa"), resize="bicubic")


def recognise_msn(weights: Weights) -> float:
    """An encoder with MSN's projection head."""
    tensors = simplify_names(weights.tensors)
    return 1.5 if is_encoder(tensors) and "fc.fc1.weight" in tensors and "fc.bn1.weight" in tensors else 0.0


def interpret_msn(weights: Weights, name: str | None) -> ForeignModel:
    """Read MSN's encoder."""
    found = read_as_timm(weights, simplify_names(weights.tensors), (), "deit")
    return replace(found, resize="bicubic", ignored=PROJECTION)


IJEPA = Family("ijepa", "facebookresearch/ijepa", recognise_ijepa, interpret_ijepa, vit.table)
MSN = Family("msn", "facebookresearch/msn", recognise_msn, interpret_msn, vit.table)
