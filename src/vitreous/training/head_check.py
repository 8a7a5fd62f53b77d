"""Whether settings of a head by logistic regression go together."""

from vitreous.data.dataset import Dataset
from vitreous.errors import ConfigError
from vitreous.objectives.config import ClassifyConfig
from vitreous.training.config import RunConfig
from vitreous.training.settings_check import takes_no_steps


def check_head(config: RunConfig, dataset: Dataset) -> None:
    """Refuse a head by logistic regression except for one label an image, its views and its second fit without it, and what only
    steps learn from in a run of none; raises ConfigError."""
    if config.head_views and config.head != "logistic":
        raise ConfigError(f"head_views is {config.head_views}, but views are for --head logistic; leave it out")
    if config.refit and config.head != "logistic":
        raise ConfigError("refit fits a head by logistic regression again, but this run has none; leave it out")
    if config.refit and config.freeze == "trunk" and not takes_no_steps(config):
        raise ConfigError(
            f"with a frozen trunk, {config.duration} of training would change the head alone, which refit then replaces; use recipe "
            "lp-ft or finetune, leave out the duration (--epochs, --steps), or set --no-refit"
        )
    if config.refit and not dataset.facts.held_out:
        raise ConfigError(
            f"refit learns from the images that were held out of the training images, but {config.data.path} has validation "
            "images of its own, which are only measured; set --no-refit"
        )
    weighed = (labelled := isinstance(config.objective, ClassifyConfig)) and config.objective.class_weights != "none"
    if takes_no_steps(config) and (weighed or config.teacher is not None):
        name = "--objective.class-weights" if weighed else "--teacher"
        raise ConfigError(
            f"{name} is for training steps, and this run has none; leave it out, or use recipe lp-ft or finetune"
        )
    if config.head == "logistic" and (dataset.facts.multilabel or not labelled):
        what = "several labels an image" if labelled else f"objective {config.objective.KIND}"
        raise ConfigError(
            f"a head by logistic regression needs one label per image; this run has {what}: use --head new"
        )
