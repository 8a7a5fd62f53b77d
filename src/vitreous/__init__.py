"""vitreous: Vision Transformers, whole. Everything here is imported when it is first used.

vitreous.train("photos/")           a run folder from a folder of images
vitreous.resume("runs/photos-1") continue it
vitreous.load("runs/photos-1")      a Predictor: images to labels
vitreous.explain("runs/photos-1", "a.jpg")  where it looks, as arrays
vitreous.create("S/16", classes=10) a freshly initialised model
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vitreous.runtime.collection import pause_collection

if TYPE_CHECKING:
    from vitreous.api.benchmarks import BenchmarkResult, benchmark
    from vitreous.api.boards import BoardResult, board
    from vitreous.api.catalogue import ModelsResult, PretrainedResult, models
    from vitreous.api.comparison import compare
    from vitreous.api.conversion import ConversionResult, convert
    from vitreous.api.evaluation import EvaluationResult, evaluate
    from vitreous.api.explanation import ExplanationResult, explain
    from vitreous.api.exports import ExportResult, export
    from vitreous.api.features import EmbeddingResult, embed
    from vitreous.api.inspection import InspectionResult, inspect
    from vitreous.api.loading import from_pretrained, load
    from vitreous.api.model_comparison import ModelComparisonResult
    from vitreous.api.models import create
    from vitreous.api.plots import (
        plot_attention_distance,
        plot_cka,
        plot_confusions,
        plot_curves,
        plot_embedding,
        plot_explanation,
        plot_folds,
        plot_positions,
        plot_reliability,
    )
    from vitreous.api.probes import ProbeResult, probe
    from vitreous.api.publication import PushResult, push_to_hub
    from vitreous.api.quantisation import QuantiseResult, quantise
    from vitreous.api.reports import ReportResult, report
    from vitreous.api.review import ReviewResult, review
    from vitreous.api.run_lists import RunsResult, runs
    from vitreous.api.search import SimilarityResult, similar
    from vitreous.api.serving import ServiceResult, serve
    from vitreous.api.shards import ShardResult, shard
    from vitreous.api.similarity import CKAResult, cka
    from vitreous.api.sorting import SortingResult, sort_into
    from vitreous.api.studies import study
    from vitreous.api.sweeps import sweep
    from vitreous.api.training import resume, train
    from vitreous.errors import VitreousError
    from vitreous.images.video import Frame, frames
    from vitreous.insight.explanation import Explanation
    from vitreous.model.config import ViTConfig
    from vitreous.model.efficientnet import EfficientNet
    from vitreous.model.efficientnet_config import EfficientNetConfig
    from vitreous.model.resnet import ResNet
    from vitreous.model.resnet_config import ResNetConfig
    from vitreous.model.swin import Swin
    from vitreous.model.swin_config import SwinConfig
    from vitreous.model.vit import ViT
    from vitreous.prediction import Prediction
    from vitreous.predictor import Predictor
    from vitreous.reports.evaluation.comparison import ComparisonResult
    from vitreous.studies.engine.run import StudyResult
    from vitreous.sweeps.result import SweepResult
    from vitreous.training.callbacks import Callback
    from vitreous.training.config import RunConfig

PLACES = {
    "train": "vitreous.api.training",
    "resume": "vitreous.api.training",
    "create": "vitreous.api.models",
    "load": "vitreous.api.loading",
    "from_pretrained": "vitreous.api.loading",
    "evaluate": "vitreous.api.evaluation",
    "EvaluationResult": "vitreous.api.evaluation",
    "probe": "vitreous.api.probes",
    "ProbeResult": "vitreous.api.probes",
    "plot_attention_distance": "vitreous.api.plots",
    "plot_cka": "vitreous.api.plots",
    "plot_confusions": "vitreous.api.plots",
    "plot_curves": "vitreous.api.plots",
    "plot_embedding": "vitreous.api.plots",
    "plot_explanation": "vitreous.api.plots",
    "plot_folds": "vitreous.api.plots",
    "plot_positions": "vitreous.api.plots",
    "plot_reliability": "vitreous.api.plots",
    "benchmark": "vitreous.api.benchmarks",
    "BenchmarkResult": "vitreous.api.benchmarks",
    "compare": "vitreous.api.comparison",
    "ComparisonResult": "vitreous.reports.evaluation.comparison",
    "embed": "vitreous.api.features",
    "EmbeddingResult": "vitreous.api.features",
    "similar": "vitreous.api.search",
    "SimilarityResult": "vitreous.api.search",
    "shard": "vitreous.api.shards",
    "ShardResult": "vitreous.api.shards",
    "cka": "vitreous.api.similarity",
    "CKAResult": "vitreous.api.similarity",
    "export": "vitreous.api.exports",
    "quantise": "vitreous.api.quantisation",
    "QuantiseResult": "vitreous.api.quantisation",
    "ExportResult": "vitreous.api.exports",
    "convert": "vitreous.api.conversion",
    "ConversionResult": "vitreous.api.conversion",
    "models": "vitreous.api.catalogue",
    "ModelsResult": "vitreous.api.catalogue",
    "ModelComparisonResult": "vitreous.api.model_comparison",
    "PretrainedResult": "vitreous.api.catalogue",
    "inspect": "vitreous.api.inspection",
    "InspectionResult": "vitreous.api.inspection",
    "push_to_hub": "vitreous.api.publication",
    "PushResult": "vitreous.api.publication",
    "runs": "vitreous.api.run_lists",
    "RunsResult": "vitreous.api.run_lists",
    "board": "vitreous.api.boards",
    "BoardResult": "vitreous.api.boards",
    "report": "vitreous.api.reports",
    "ReportResult": "vitreous.api.reports",
    "study": "vitreous.api.studies",
    "StudyResult": "vitreous.studies.engine.run",
    "sweep": "vitreous.api.sweeps",
    "SweepResult": "vitreous.sweeps.result",
    "serve": "vitreous.api.serving",
    "ServiceResult": "vitreous.api.serving",
    "sort_into": "vitreous.api.sorting",
    "SortingResult": "vitreous.api.sorting",
    "review": "vitreous.api.review",
    "ReviewResult": "vitreous.api.review",
    "explain": "vitreous.api.explanation",
    "ExplanationResult": "vitreous.api.explanation",
    "Explanation": "vitreous.insight.explanation",
    "Frame": "vitreous.images.video",
    "frames": "vitreous.images.video",
    "Predictor": "vitreous.predictor",
    "Prediction": "vitreous.prediction",
    "EfficientNet": "vitreous.model.efficientnet",
    "EfficientNetConfig": "vitreous.model.efficientnet_config",
    "ResNet": "vitreous.model.resnet",
    "ResNetConfig": "vitreous.model.resnet_config",
    "Swin": "vitreous.model.swin",
    "SwinConfig": "vitreous.model.swin_config",
    "ViT": "vitreous.model.vit",
    "ViTConfig": "vitreous.model.config",
    "Callback": "vitreous.training.callbacks",
    "RunConfig": "vitreous.training.config",
    "VitreousError": "vitreous.errors",
}
__all__ = [
    "BenchmarkResult",
    "BoardResult",
    "CKAResult",
    "Callback",
    "ComparisonResult",
    "ConversionResult",
    "EfficientNet",
    "EfficientNetConfig",
    "EmbeddingResult",
    "EvaluationResult",
    "Explanation",
    "ExplanationResult",
    "ExportResult",
    "Frame",
    "InspectionResult",
    "ModelComparisonResult",
    "ModelsResult",
    "Prediction",
    "Predictor",
    "PretrainedResult",
    "ProbeResult",
    "PushResult",
    "QuantiseResult",
    "ReportResult",
    "ResNet",
    "ResNetConfig",
    "ReviewResult",
    "RunConfig",
    "RunsResult",
    "ServiceResult",
    "ShardResult",
    "SimilarityResult",
    "SortingResult",
    "StudyResult",
    "SweepResult",
    "Swin",
    "SwinConfig",
    "ViT",
    "ViTConfig",
    "VitreousError",
    "benchmark",
    "board",
    "cka",
    "compare",
    "convert",
    "create",
    "embed",
    "evaluate",
    "explain",
    "export",
    "frames",
    "from_pretrained",
    "inspect",
    "load",
    "models",
    "plot_attention_distance",
    "plot_cka",
    "plot_confusions",
    "plot_curves",
    "plot_embedding",
    "plot_explanation",
    "plot_folds",
    "plot_positions",
    "plot_reliability",
    "probe",
    "push_to_hub",
    "quantise",
    "report",
    "resume",
    "review",
    "runs",
    "serve",
    "shard",
    "similar",
    "sort_into",
    "study",
    "sweep",
    "train",
]


INSTEAD = {
    "predict": "; vitreous.load(MODEL)(IMAGES) predicts",
    "quantize": "; it is vitreous.quantise",
    **dict.fromkeys(("val", "validate", "test"), "; it is vitreous.evaluate"),
}
"""Hints for names that other libraries use."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("vitreous")
    if name not in PLACES:
        instead = INSTEAD.get(name, "")
        raise AttributeError(f"module 'vitreous' has no attribute {name!r}{instead}")
    with pause_collection():
        return getattr(import_module(PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*PLACES, "__version__"])
