"""`vitreous train --recipe noisy-student`: from a command to a model, and wrong inputs in one line before any work."""

import pytest
from tests.support.unlabelled import write_digits


@pytest.fixture
def digits(tmp_path):
    """Return a folder of labelled digits, and of others without labels."""
    write_digits(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name them with --unlabelled FOLDER"),
        (["--unlabelled", "nothing"], "no such file or folder: nothing"),
        (["--unlabelled", "digits"], "give a folder of images"),
        (["--unlabelled", "{more}", "--teacher", "nothing"], "nothing"),
        (["--unlabelled", "{more}", "--self-training.rounds", "0"], "rounds is 0"),
        (["--unlabelled", "{more}", "--folds", "3"], "leave out --folds"),
        (["--unlabelled", "{more}", "--rates", "0.1"], "leave out --folds and --rates"),
        (["--unlabelled", "{more}", "--batch", "30"], "give a multiple of 4"),
        (["--unlabelled", "{more}", "--data.pseudo-labels", "x.csv"], "writes pseudo labels itself"),
    ],
)
def test_wrong_inputs_are_one_line_before_any_work(vitreous, digits, here, arguments, words):
    given = [argument.format(more=digits / "more") for argument in arguments]
    done = vitreous(
        "train", digits / "labelled", "--recipe", "noisy-student", "--out", "self", "--workers", "0", *given
    )
    done.refused(words)
    assert list(here.iterdir()) == []


def test_unlabelled_images_and_self_training_need_the_recipe(vitreous, digits):
    place = digits / "labelled"
    vitreous("train", place, "--recipe", "small", "--unlabelled", digits / "more").refused("use --recipe noisy-student")
    vitreous("train", place, "--recipe", "small", "--self-training.rounds", "2").refused("add --recipe noisy-student")


def test_a_command_trains_teacher_and_student(vitreous, digits, here):
    vitreous(
        "train", digits / "labelled", "--recipe", "noisy-student", "--unlabelled", digits / "more", "--out", "self",
        "--self-training.rounds", "1", "--self-training.threshold", "0", "--duration", "4st", "--evaluate-every", "4st",
        "--workers", "0",
    ).worked("teacher ", "round 1", " of 40 images", "next: vitreous predict self")  # fmt: skip
    vitreous("predict", "self", digits / "more").worked()
    vitreous("inspect", "self").worked("1 round, soft labels", "next: vitreous predict self")
    assert "A teacher labelled 40 images" in (here / "self" / "final" / "report.html").read_text()
