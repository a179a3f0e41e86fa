"""How far long work is, where there is no terminal to draw a bar on."""

import pytest

from synccache.animation import Progress
from synccache.cli import progress


@pytest.mark.parametrize(("every", "lines"), [(0.0, ["runs 0/2 one", "runs 1/2 two"]), (60.0, [])])
def test_a_line_every_so_often_where_there_is_no_terminal(every, lines, monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", every)
    for shown in (True, False):
        with progress.CountBar("runs", shown) as bar:
            bar(0, 2, "one"), bar(1, 2, "two")
        said = [line.partition(" about")[0] for line in capsys.readouterr().err.splitlines()]
        assert said == (lines if shown else [])


def test_an_animation_says_clip_step_and_time_left_in_a_log(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.TakeBar() as bar:
        for done in range(1, 81):
            now[0] += 2
            bar(Progress("synccache", clips=2, steps=80, clip=(done - 1) // 40, done=done, computed=done, skipped=0))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 5  # 160 s
    assert said[0] == "synccache clip 1/2 15/80 steps 15 computed 0 skipped about 2 min left"
    assert said[-1].startswith("synccache clip 2/2 75/80 steps") and said[-1].endswith("about 10 s left")


def test_a_second_take_has_a_pace_of_its_own(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = progress.Lines(True)
    for step, pace in ((0, 0), (100, 1000), (0, 0), (50, 50)):
        now[0] += pace
        lines("take", step, 100, "")
    assert capsys.readouterr().err.splitlines()[-1] == "take about 50 s left"
