"""The paper's experiments (2010.11929), each one file: the question, the runs, the measurements, the conclusion.

READ `study.py` first: a study is a Study, its `cells` are ordinary training runs, its `conclude` reads what they
measured. `run.py` carries a study out, `statistics.py` says what may be concluded, `charts.py` draws, `page.py` writes.

To add a study: a file here with a `STUDY`, and its line in `catalog.py`. `positions.py` is the plainest to copy:

    def cells(setting):                                  # complete RunConfigs, eager; nothing is run here
        base = runs.small(setting, examples=30_000)
        return [Cell(f"{name}-{seed}", name, replace(base, seed=seed, model=replace(base.model, ...))) ...]

    def conclude(setting, results):                     # from numbers alone; cells may be missing
        gain = differences(results.by_seed("a", "top1"), results.by_seed("b", "top1"))
        return Conclusion(verdicts=(Verdict(CLAIM, judged(gain, "more"), f"..."),), table=..., figures=...)

A cell that starts from another cell's model names that cell in `needs` and has weights=str(setting.run("that cell")).
"""
