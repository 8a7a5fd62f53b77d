"""What a run counts and records of its steps."""

import resource
import sys
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitreous.model import count
from vitreous.objectives.config import ClassifyConfig
from vitreous.run_folder import Run
from vitreous.runtime.peak_rate import find_peak_rate
from vitreous.training.cost import count_passes
from vitreous.training.non_finite import watch_loss
from vitreous.training.state import Job

RECORDS = 400
"""Training records in metrics.jsonl over a whole run."""


@dataclass(frozen=True)
class StepTime:
    """How long a step took, in seconds."""

    whole: float
    """From one step to the next."""
    waiting: float
    """Until its batch was there."""


def is_recorded(job: Job, step: int) -> bool:
    """Return whether there is a training record after this step, counted from 1."""
    return step % max(1, job.schedule.total // RECORDS) == 0 or step == job.schedule.total


def advance(job: Job, run: Run, loss: Tensor, numbers: dict[str, Tensor], time: StepTime) -> None:
    """Count the step, write a training record when one is due, and tell the callbacks."""
    progress, window, batch = job.progress, job.progress.window, job.config.batch
    rate = job.optimizer.config.lr * job.schedule.share(progress.step)
    progress.step += 1
    progress.seconds += time.whole
    found = {name: float(value) for name, value in numbers.items()}
    of_step = {"steps": 1, "seconds": time.whole, "waiting": time.waiting}
    for name, value in (found | of_step).items():
        window[name] = window.get(name, 0.0) + value
    window["loss"] += float(loss) * batch
    window["samples"] += batch
    job.whole = True
    records = []
    if is_recorded(job, progress.step):
        samples = progress.step * batch
        records.append(
            {
                "kind": "train",
                "step": progress.step,
                "epoch": samples / len(job.stream),
                "samples": samples,
                "loss": window["loss"] / window["samples"],
                **read_shares(job),
                "gradient_norm": window["gradient_norm"] / window["steps"],
                "lr": rate,
                "images_per_second": samples / progress.seconds,
                "seconds": progress.seconds,
                **measure_machine(job),
            }
        )
        if job.layers is not None:
            records.append({"kind": "layers", "step": progress.step, **job.layers})
        window.update(dict.fromkeys(window, 0.0))
    records += watch_loss(job, float(loss))
    if records:  # last: a callback that fails here finds the step counted
        run.log(*records)
    told = {"loss": float(loss), "gradient_norm": found["gradient_norm"], "lr": rate}
    for one in job.callbacks:
        one.on_step(progress.step, told, job.model)


def read_shares(job: Job) -> dict[str, float]:
    """Return the objective's figures for the examples since the last record, besides the loss: accuracy, or F1;
    of packed images also the share of tokens that padding all images of a part to the largest would add."""
    window = job.progress.window
    if not window["samples"]:
        return {}
    saved = {"padding_saved": 1 - window["packed"] / window["padded"]} if window.get("padded") else {}
    return job.objective.shares(window) | saved


def measure_machine(job: Job) -> dict[str, float]:
    """Return how this process's machine was used since the last record.

    `data_wait`: share of the time in which the next batch was waited for. `memory`: bytes at most so far, on the GPU or, without
    one, of this process. `mfu`: operations of the model in forward and backward passes (`cost.count_passes`) as a share of what the GPU can
    do; only where both are known.
    """
    window = job.progress.window
    found = {"data_wait": window["waiting"] / max(window["seconds"], 1e-9), "memory": float(measure_memory(job.device))}
    peak, operations = find_peak_rate(job.device, job.config.precision), count_operations(job)
    if peak is not None and operations is not None:
        found["mfu"] = operations * window["samples"] / max(window["seconds"], 1e-9) / (peak * job.world.size)
    return found


def measure_memory(device: torch.device) -> int:
    """Return the most bytes so far: of tensors on a GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def count_operations(job: Job) -> int | None:
    """Return the operations of one example in the newest step; None where parts of an image are left out."""
    config = job.config
    if not isinstance(config.objective, ClassifyConfig) or config.regularisation.patch_dropout or config.packed:
        return None
    size = job.resolution(job.progress.step - 1)
    return count_passes(config) * count.count_flops(config.model if size is None else replace(config.model, image=size))
