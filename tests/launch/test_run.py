"""``synccache run`` is as ``python``: arguments, exit codes, tracebacks, signals; and what it says of nothing."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from launching import ENVIRONMENT, SCRIPTS, launched

RUN = ("-m", "synccache", "run")


@pytest.fixture
def script(tmp_path):
    def write(text, name="script.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


def both(*command):
    """The same command run by ``python`` and by ``synccache run``."""
    return launched(*command), launched(*RUN, "--", *command)


def test_a_script_sees_what_it_would_see(script):
    path = script(
        """
        import sys, os, pickle
        class Own: pass
        if __name__ == "__main__":
            print(sys.argv, __name__, __file__, sys.path[0], __spec__, sys.modules["__main__"].__file__)
            print(type(pickle.loads(pickle.dumps(Own()))).__module__, __doc__)
        """
    )
    plain, run = both(path, "--speed", "9", "a b", "--", "-x")
    assert plain.returncode == run.returncode == 0 and plain.stdout == run.stdout


def test_a_module_sees_what_it_would_see(script, monkeypatch):
    path = script("", "package/__init__.py").parent
    script("import sys; print(sys.argv[1:], __name__, __package__, __spec__.name, sys.path[0])", "package/inner.py")
    monkeypatch.chdir(path.parent)
    plain, run = both("-m", "package.inner", "-m", "x")
    assert plain.returncode == run.returncode == 0 and plain.stdout == run.stdout


@pytest.mark.parametrize("last", ["sys.exit(7)", "sys.exit()", "sys.exit('no')", "raise ValueError('no')", "1 / 0"])
def test_it_ends_as_the_script_ends(script, last):
    path = script(f"import sys\ndef inner():\n    {last}\ninner()\n")
    plain, run = both(path)
    assert plain.returncode == run.returncode
    own = [line for line in run.stderr.splitlines() if not line.startswith("synccache:")]
    assert own == plain.stderr.splitlines()


def test_ctrl_c_reaches_the_script(script):
    path = script(
        """
        import time
        print("ready", flush=True)
        try:
            time.sleep(100)
        finally:
            print("cleaned up", flush=True)
        """
    )
    ends = []
    for before in ([], [*RUN, "--"]):
        command = [sys.executable, *before, path]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
        ) as work:  # fmt: skip
            assert work.stdout.readline() == "ready\n"
            time.sleep(0.5)  # it sleeps by now
            work.send_signal(signal.SIGINT)
            out, error = work.communicate(timeout=120)
        ends.append((work.returncode, out, "KeyboardInterrupt" in error))
    assert ends[0] == ends[1] == (-signal.SIGINT, "cleaned up\n", True)


def test_nothing_to_attach_to_is_said_and_can_be_an_error(script):
    path = script("print('done')")
    run = launched(*RUN, "--", path)
    assert run.returncode == 0 and run.stdout == "done\n" and "nothing was attached" in run.stderr
    assert launched(*RUN, "--strict", "--", path).returncode == 3
    assert launched(*RUN, "--strict", "--", script("import sys; sys.exit(5)")).returncode == 5


def test_models_can_be_copied_and_pickled_before_they_are_called(script):
    path = script(
        """
        import copy, pickle, torch
        from synccache.testing import WanModel_S2V
        model = WanModel_S2V()
        own = set(vars(copy.deepcopy(model))) | set(vars(pickle.loads(pickle.dumps(model))))
        print(sorted(name for name in own if "call" in name or "state" in name and not name.startswith("_load")))
        """
    )
    plain, run = both(path)
    assert run.returncode == 0, run.stderr
    assert run.stdout == plain.stdout


def test_a_shorter_schedule_is_left_to_the_script(tmp_path):
    command = (SCRIPTS / "text_to_video.py", "--steps", "9", "--output", tmp_path / "x.pt")
    run = launched(*RUN, "--method", "fewer-steps", "--strict", "--", *command)
    assert run.returncode == 3 and "Ask the script for fewer steps" in run.stderr


def test_an_unknown_transformer_is_named(tmp_path):
    command = (SCRIPTS / "infinitetalk/generate_infinitetalk.py", "--sample_steps", "4", "--save_file", tmp_path / "x")
    run = launched(*RUN, "--strict", "--", *command)
    assert run.returncode == 3 and "--include WanModel" in run.stderr and "steps computed" not in run.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--speed", "0.5", "--", "x.py"], "speed="),
        (["--speed", "warp", "--", "x.py"], "balanced (3)"),
        (["--method", "teacahe", "--", "x.py"], "teacache"),
        (["--", "no_such_script.py"], "no_such_script.py"),
        ([], "no script"),
        (["--sped", "3", "--", "x.py"], "--sped"),
        (["--set", "max_gap", "--", "x.py"], "name=value"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything(given, said, tmp_path):
    if "x.py" in given:
        given[-1] = str(tmp_path / "x.py")
        (tmp_path / "x.py").write_text("print('ran')")
    run = launched(*RUN, *given)
    assert run.returncode == 2 and said in run.stderr and "ran" not in run.stdout
    assert run.stderr.startswith("error: ") and run.stderr.count("\n") == 1


def test_an_inner_script_takes_its_options_from_the_environment(script, tmp_path, monkeypatch):
    inner = script(
        """
        import synccache.auto
        import runpy, sys
        sys.argv = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")
        """
    )
    shell = script("import subprocess, sys\nsys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))", "outer.py")
    monkeypatch.setitem(ENVIRONMENT, "SYNCCACHE_RUN", "--speed 2")
    command = (shell, inner, SCRIPTS / "text_to_video.py", "--output", tmp_path / "x.pt")
    done = launched(*command)
    assert done.returncode == 0, done.stderr
    assert "of 20 steps computed" in done.stderr
    monkeypatch.setitem(ENVIRONMENT, "SYNCCACHE_RUN", "--speed 0")
    done = launched(*command)
    assert done.returncode == 2 and done.stderr.startswith("error: SYNCCACHE_RUN: speed=")
    monkeypatch.delitem(ENVIRONMENT, "SYNCCACHE_RUN")
    assert "synccache" not in launched(*command).stderr
    assert os.environ.get("SYNCCACHE_RUN") is None
