"""Training and validation say where their batches go, so that a GPU's are pinned."""

from tests.support.training import TINY

from vitreous.data.dataset import open_dataset
from vitreous.training import loop, validate
from vitreous.training.assembly import build_job
from vitreous.training.interrupt import Interrupt
from vitreous.training.reporter import Silent


def test_batches_are_for_the_jobs_device(monkeypatch):
    job = build_job(TINY, open_dataset(TINY.data, TINY.decode), Silent())
    found = []
    for module, name in ((loop, "load_train_batches"), (validate, "load_evaluation_batches")):
        monkeypatch.setattr(module, name, lambda *given: found.append(given[-1]) or iter(()))
    loop.load_batches(job, 1)
    assert list(validate.iterate_batches(job, Interrupt())) == []
    assert found == [job.device, job.device]
