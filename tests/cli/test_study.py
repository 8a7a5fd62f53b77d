"""What `vitreous study` says."""

from pathlib import Path

from vitreous.cli.options.study import Study
from vitreous.cli.study import report_result
from vitreous.studies.engine.run import StudyResult


def test_an_interrupted_study_names_a_command_that_can_be_pasted(capsys):
    ended = StudyResult(Path("my study"), None, 0, 3, signal=2)
    assert report_result(ended, Study("positions", data="my photos", only="one cell")) == 130
    assert capsys.readouterr().out.endswith("--data 'my photos' --out 'my study' --only 'one cell'\n")
    assert report_result(ended, Study("positions")) == 130
    assert "--only" not in capsys.readouterr().out


def test_once_some_cells_are_done_the_next_command_runs_the_others(capsys):
    ended = StudyResult(Path("study"), None, 1, 3)
    assert report_result(ended, Study("positions", only="none-0")) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told == "next: vitreous study positions --scale laptop --data digits --out study   (2 cells are left)"
