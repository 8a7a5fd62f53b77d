"""The report's details: the data's scan, the configuration, versions, and further commands."""

import json
import platform
import shlex

from vitreous.drawing.svg import shorten
from vitreous.reports.blocks import Block, Code, Note, Table, Words
from vitreous.reports.run.contents import RunContents, is_unlabelled, to_mapping
from vitreous.runtime.packages import find_version

PACKAGES = ("vitreous", "torch", "numpy", "pillow")
MOST_LINES = 400
"""Most lines of the configuration that are shown; a longer one is cut."""


def build_data(found: RunContents) -> list[Block]:
    """Return the findings of the data's scan."""
    if found.dataset is None:
        return [Note("No data:", found.missing["dataset"])]
    report, notes = found.dataset.report, []
    if report.duplicates:
        known = f"{len(report.duplicates):,} validation images are also among the training images;"
        notes.append(Note(known, "the accuracy flatters the model, which has seen them."))
    if report.broken:
        notes.append(Note(f"{len(report.broken):,} files can't be read", "and were left out."))
    return [*notes, Code(str(report))]


def build_configuration(found: RunContents) -> list[Block]:
    """Return every setting of the run."""
    settings = found.settings
    if not settings:
        return [Note("No configuration:", "config.json doesn't hold one.")]
    model = to_mapping(settings.get("model"))
    optimizer = to_mapping(settings.get("optimizer"))
    facts = [
        ("recipe", settings.get("recipe")),
        ("start from", settings.get("weights") or "fresh weights"),
        ("duration", settings.get("duration")),
        ("batch", settings.get("batch")),
        ("model", _describe_model(model)),
        ("objective", to_mapping(settings.get("objective")).get("kind")),
        ("optimizer", f"{optimizer.get('name')}, peak learning rate {shorten(optimizer.get('lr') or 0)}"),
        ("seed", settings.get("seed")),
        ("precision", settings.get("precision")),
    ]
    rows = [(name, value) for name, value in facts if value is not None]
    lines = json.dumps(settings, indent=2, ensure_ascii=False).splitlines()
    shown = "\n".join(lines[:MOST_LINES]) + ("\n..." if len(lines) > MOST_LINES else "")
    return [
        Table("The settings that matter most", ("setting", "value"), rows, words=2),
        Code(shown, "Every setting, as config.json has it"),
    ]


def _describe_model(model: dict[str, object]) -> str | None:
    if {"image", "units", "width"} <= model.keys():
        image, units = " x ".join(map(str, model["image"])), "+".join(map(str, model["units"]))  # type: ignore[arg-type]
        return f"{units} {model.get('unit', 'bottleneck')} units, width {model['width']}; images of {image}"
    if not {"image", "patch", "depth", "width", "heads"} <= model.keys():
        return None
    image, patch = (" x ".join(map(str, model[key])) for key in ("image", "patch"))  # type: ignore[arg-type]
    return f"{model['depth']} blocks of width {model['width']}, {model['heads']} heads; images of {image}, patches of {patch}"


def build_versions(found: RunContents) -> list[Block]:
    """Return the machine of the run, and the software that wrote this page."""
    rows = [(f"run: {name}", value) for name, value in to_mapping(found.record.config.get("environment")).items()]
    rows += [(f"report: {name}", find_version(name) or "not installed as a package") for name in PACKAGES]
    rows += [
        ("report: Python", platform.python_version()),
        ("report: machine", f"{platform.machine()} {platform.system()}"),
    ]
    rows += [("checkpoints", ", ".join(f"step {step:,}" for step in found.record.checkpoints) or "none")]
    return [Table("Where it ran, and what wrote this page", ("what", "value"), rows, words=2)]


def build_commands(found: RunContents) -> list[Block]:
    """Return useful commands for this run."""
    run = shlex.quote(str(found.record.path))
    lines = []
    if found.steps and found.step < found.steps and found.ended.get("why") != "diverged":
        lines.append(("go on training", f"vitreous resume {run}"))
    if found.record.model is not None and is_unlabelled(found):
        lines.append(("fine-tune it on labelled images", f"vitreous train DATA --recipe finetune --weights {run}"))
    elif found.record.model is not None:
        lines.append(("measure it on labelled images", f"vitreous evaluate {run} DATA"))
        lines.append(("classify images", f"vitreous predict {run} IMAGES..."))
    lines.append(("write this page anew", f"vitreous report {run}"))
    body = "\n".join(f"# {why}\n{command}" for why, command in lines)
    return [Words("In a terminal, from the folder that the run was started in:"), Code(body)]
