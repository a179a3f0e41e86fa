"""How far long work is, where there is no terminal to draw a bar on."""

import pytest

from synccache.cli import progress


@pytest.mark.parametrize(("every", "lines"), [(0.0, ["runs 0/2 one", "runs 1/2 two"]), (60.0, [])])
def test_a_line_every_so_often_where_there_is_no_terminal(every, lines, monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", every)
    for shown in (True, False):
        with progress.CountBar("runs", shown) as bar:
            bar(0, 2, "one"), bar(1, 2, "two")
        assert capsys.readouterr().err.splitlines() == (lines if shown else [])
