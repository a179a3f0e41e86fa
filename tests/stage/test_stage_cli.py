"""What the stage commands refuse, before anything is made."""

import pytest

from synccache.cli import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "steps must lie"),
        (["--minutes", "0"], "minutes must be"),
        (["--finish"], "--finish needs --minutes"),
        (["--rate", "0"], "rate must lie"),
        (["--batch", "0"], "batch must be"),
        (["--device", "abacus"], "device must be"),
        (["--from", "nowhere"], "No stage model in nowhere"),
    ],
)
def test_training_refuses(tmp_path, capsys, arguments, message):
    assert main(["stage-train", "--out", str(tmp_path / "run"), *arguments]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--clips", "1"], "clips must lie"), (["--model", "nowhere"], "No stage model"), (["--steps", "0"], "steps")],
)
def test_evaluation_refuses(capsys, arguments, message):
    assert main(["stage-eval", *arguments]) == 2
    assert message in capsys.readouterr().err
