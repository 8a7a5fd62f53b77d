"""Pre-training without labels: masked patches and a masked autoencoder (2010.11929, section 4.6 and appendix B.1.2).

The paper pre-trained ViT-B/16 on JFT-300M by masked patch prediction and fine-tuned it on ImageNet: 79.9%, about 2 points above
training from scratch, and 4 below supervised pre-training. The masked autoencoder (2111.06377) came later; it is held
against scratch likewise.

Here a model is pre-trained on half of the classes, with labels, by masked patches or as a masked autoencoder, for
equally many images, and fine-tuned on few labelled images of the other half. "Scratch" learns only from those few
images, but sees as many as pre-training and fine-tuning together. Each way chooses among the same learning rates, for a
seed by the other seeds. "Scratch, as short as a fine-tuning" is shown for comparison: beating that is no merit of any
pre-training.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from vitreous.drawing.charts import Row, draw_dots
from vitreous.metrics.seeds import choose_on_others, find_interval, note_grid_edges, weigh_difference
from vitreous.model.config import RegularisationConfig, ViTConfig
from vitreous.objectives.config import MaskedAutoencoderConfig, MaskedPatchesConfig, ObjectiveConfig
from vitreous.recipes.catalog import configure
from vitreous.recipes.unlabelled import MANY
from vitreous.reports.blocks import Table
from vitreous.studies.engine import base_runs
from vitreous.studies.engine.class_split import split_classes, write_split
from vitreous.studies.engine.study import (
    Cell,
    CellResults,
    Conclusion,
    Figure,
    Setting,
    Study,
    Trained,
    measure_accuracy,
)
from vitreous.training.config import RunConfig

SCRATCH, SUPERVISED, PATCHES, AUTOENCODER = "scratch", "supervised", "masked patches", "masked autoencoder"
WAYS = (SUPERVISED, PATCHES, AUTOENCODER)
RECIPES = {PATCHES: "masked-patches", AUTOENCODER: "mae"}
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
"""Adam's rates in fine-tuning and from scratch."""
SHORT = "scratch, as short as a fine-tuning"
CLAIMS = (
    ("masked patch prediction is better than training from scratch", PATCHES, SCRATCH, "+2"),
    ("supervised pre-training is better than masked patch prediction", SUPERVISED, PATCHES, "+4"),
    ("a masked autoencoder is better than training from scratch (2111.06377's claim)", AUTOENCODER, SCRATCH, ""),
)
"""The claim, the condition that should be better than the other, and the paper's difference in points."""


def cells(setting: Setting) -> list[Cell]:
    """Return, for each seed, each pre-training on the source, and at each rate the training on the target."""
    labelled = setting.choose(smoke=10, laptop=200, gpu=500, paper=None)
    source, target = split_classes(setting, labelled)
    prepare = partial(write_split, labelled=labelled)
    found = []

    def add_training(way: str, config: RunConfig, needs: tuple[str, ...] = ()) -> None:
        for rate in list_rates(setting):
            own = config if setting.scale == "paper" else replace(config, optimizer=base_runs.configure_adam(rate))
            group = name_condition(way, rate)
            found.append(Cell(f"{base_runs.build_slug(group)}-{own.seed}", group, own, needs=needs, prepare=prepare))

    for seed in setting.seeds(laptop=3, gpu=4, paper=1):
        add_training(SCRATCH, replace(configure_target(target, None), seed=seed))
        if setting.scale != "paper":
            add_training(SHORT, replace(configure_target(target, None), duration=choose_lengths(setting)[1], seed=seed))
        for way in WAYS:
            start = f"pre-trained-{base_runs.build_slug(way)}-{seed}"
            measure = measure_accuracy if way == SUPERVISED else measure_loss
            config = replace(configure_pretraining(source, way), seed=seed)
            found.append(Cell(start, f"pre-trained, {way}", config, measure, prepare=prepare))
            add_training(way, replace(configure_target(target, str(setting.run(start))), seed=seed), (start,))
    return found


def list_rates(setting: Setting) -> tuple[float, ...]:
    """Return the rates that each way chooses from; at paper scale the configuration holds the paper's own."""
    return setting.choose(smoke=RATES[:2], laptop=RATES, gpu=RATES, paper=(0.0,))


def name_condition(way: str, rate: float) -> str:
    """Return a condition's name: "scratch, 0.001"."""
    return f"{way}, {rate:g}" if rate else way


def choose_lengths(setting: Setting) -> tuple[str, str, str]:
    """Return the images seen in pre-training, in fine-tuning, and from scratch: as many as in both."""
    return setting.choose(
        smoke=("64ex", "64ex", "128ex"),
        laptop=("32kex", "6kex", "38kex"),
        gpu=("800kex", "60kex", "860kex"),
        paper=("", "", ""),
    )


def measure_loss(trained: Trained) -> dict[str, Any]:
    """Return the objective's loss on the validation images: a run without labels has no accuracy."""
    return {"loss": trained.metrics["loss"]}


def configure_base(setting: Setting) -> RunConfig:
    """Return the run that all share: 8 x 8 patches, so that something stays visible when most of them are hidden."""
    if setting.scale == "paper":
        return base_runs.configure_paper(setting)
    patches = 4 if min(setting.facts.size) < 16 else 8
    width, depth = setting.choose(smoke=(32, 1), laptop=(64, 4), gpu=(192, 8), paper=(0, 0))
    return base_runs.configure_small(setting, patches, width, depth)


def configure_pretraining(setting: Setting, way: str) -> RunConfig:
    """Return a pre-training on the source."""
    if setting.scale == "paper":
        plain = base_runs.configure_paper(setting)
        if way == SUPERVISED:
            return plain
        many = replace(setting, facts=replace(setting.facts, train=max(MANY, setting.facts.train)))
        config = configure(RECIPES[way], many.make_recipe_options())  # the paper's settings, even for few images
        assert isinstance(plain.model, ViTConfig)
        return replace(config, model=replace(plain.model, classes=0, pre_logits=False))
    config = replace(configure_base(setting), duration=choose_lengths(setting)[0])
    if way == SUPERVISED:
        return config
    assert isinstance(config.model, ViTConfig)
    return replace(
        config,
        recipe=RECIPES[way],
        model=replace(config.model, classes=0),
        objective=build_objective(way, config.model.width),
        augment=replace(config.augment, mixup=0.0),
    )


def build_objective(way: str, width: int) -> ObjectiveConfig:
    """Return the objective without labels; the autoencoder's decoder is half as wide as the model, with 2 blocks."""
    if way == PATCHES:
        return MaskedPatchesConfig()
    half = max(32, width // 2)
    return MaskedAutoencoderConfig(decoder_width=half, decoder_depth=2, decoder_heads=half // 16)


def configure_target(setting: Setting, weights: str | None) -> RunConfig:
    """Return the fine-tuning on the target, or the training from scratch; the paper's scratch is its training on
    ImageNet."""
    if setting.scale == "paper":
        plain = configure_base(setting)
        assert isinstance(plain.model, ViTConfig)
        if weights is None:
            return plain
        model = replace(plain.model, pre_logits=False)
        plain = replace(plain, model=model, regularisation=RegularisationConfig(), batch=512)
        return base_runs.configure_fine_tuning(plain, weights, 0.03, "20000st")
    config = base_runs.configure_fine_tuning(
        configure_base(setting), weights or "", RATES[0], choose_lengths(setting)[2 if weights is None else 1]
    )
    return replace(config, weights=weights)


def conclude(setting: Setting, results: CellResults) -> Conclusion:
    """Compare the ways to start, each at its own rate."""
    by_rate = {
        way: {rate: results.by_seed(name_condition(way, rate), "top1") for rate in list_rates(setting)} for way in SHOWN
    }
    known = {
        way: results.candidates({rate: name_condition(way, rate) for rate in list_rates(setting)}, "top1")
        for way in SHOWN
    }
    best = {way: choose_on_others(tried) for way, tried in known.items()}
    found = {way: {seed: known[way][rate][seed] for seed, rate in chosen.items()} for way, chosen in best.items()}
    verdicts = []
    for claim, one, other, paper in CLAIMS:
        words = f"{one} minus {other}".capitalize()
        verdicts += weigh_difference(claim, words, found[one], found[other], paper)
    rows = [
        Row(way, list(values.values()), find_interval(values.values()), 2 if way in (SCRATCH, SHORT) else 1)
        for way, values in found.items()
    ]
    label = "Validation accuracy on the target, by what came before"
    drawn = draw_dots(rows, label, "validation accuracy; mean, 95% interval, each seed")
    shown = [
        [
            way,
            *(find_interval(by_rate[way][rate].values()).percent() for rate in list_rates(setting)),
            format_own(found[way], best[way]),
        ]
        for way in SHOWN
    ]
    table = Table(
        "Validation accuracy in percent on the target by peak learning rate, mean ± 95% interval over seeds and images",
        ["pre-training", *(f"{rate:g}" for rate in list_rates(setting)), "each seed at its rate"],
        shown,
    )
    notes = (*NOTES, *note_grid_edges(best, dict.fromkeys(SHOWN, list_rates(setting))))
    return Conclusion(verdicts, [table], [Figure("figure", f"{label}.", drawn)], notes)


SHOWN = (SCRATCH, SHORT, PATCHES, AUTOENCODER, SUPERVISED)


def format_own(found: dict[int, float], chosen: dict[int, float]) -> str:
    """Format a way's accuracy at the rates that its seeds chose."""
    listed = ", ".join(f"{rate:g}" for rate in sorted(set(chosen.values())))
    return f"{find_interval(found.values()).percent()} ({listed})" if found else "–"


NOTES = (
    "Learning without labels is slow: the paper pre-trains for 1,000,000 steps of 4,096 images, with diminishing "
    "returns after 100,000.",
    "Source and target are halves of one data set, so that labels of the source tell much about the target too.",
)

STUDY = Study(
    name="self-supervision",
    title="Pre-training without labels (section 4.6)",
    question="Is pre-training without labels better than none, and how far from pre-training with labels?",
    paper=(
        "Masked patch prediction on JFT-300M, fine-tuned on ImageNet: ViT-B/16 79.9%, 2 points above training from scratch and 4 "
        "below supervised pre-training (section 4.6, appendix B.1.2)."
    ),
    here=(
        "A model is pre-trained on half of the classes, with labels, by masked patches or as a masked autoencoder, "
        "for equally many images, and fine-tuned on few labelled images of the other half. Scratch sees only those "
        "few, but as many images as pre-training and fine-tuning together. Each way chooses its learning rate among "
        "the same ones, for a seed by the other seeds."
    ),
    cells=cells,
    conclude=conclude,
)
