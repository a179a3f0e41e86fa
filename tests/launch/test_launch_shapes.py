"""``synccache run`` on scripts that are launched, loop and call their models as the released ones do."""

import json

import pytest
import torch
from launching import SCRIPTS, launched

STEPS = 20


class Launch:
    """One script: its command line, how many clips it makes, and options that it needs."""

    def __init__(self, script, *given, output, clips=1, include=()):
        self.command = [str(SCRIPTS / script), *given, output]
        self.clips, self.include = clips, [f"--include={name}" for name in include]


LAUNCHES = {
    "wan s2v": Launch(
        "wan22/generate.py", "--task", "s2v-14B", "--size", "1024*704", "--ckpt_dir", "./Wan2.2-S2V-14B",
        "--offload_model", "True", "--convert_model_dtype", output="--save_file", clips=2,
    ),
    "wan t2v": Launch(
        "wan22/generate.py", "--task", "t2v-A14B", "--ckpt_dir", "./Wan2.2-T2V-A14B", "--offload_model", "True",
        output="--save_file",
    ),
    "avatar": Launch("avatar/hymm_sp/sample_gpu_poor.py", "--cpu-offload", output="--save-path"),
    "infinitetalk": Launch(
        "infinitetalk/generate_infinitetalk.py", "--size", "infinitetalk-480", "--mode", "streaming",
        output="--save_file", clips=2, include=["WanModel"],
    ),
    "diffusers": Launch("text_to_video.py", output="--output"),
}  # fmt: skip


def saved(launch, path, *before):
    """What a launch saved, and what it said."""
    done = launched(*before, *launch.command, path)
    assert done.returncode == 0, done.stderr
    return torch.load(path), done.stderr


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.mark.parametrize("name", LAUNCHES)
def test_a_script_runs_unchanged_and_skips_as_asked(name, tmp_path):
    launch = LAUNCHES[name]
    plain, _ = saved(launch, tmp_path / "plain.pt")
    run = ["-m", "synccache", "run", *launch.include]
    none, said = saved(launch, tmp_path / "none.pt", *run, "--method", "none", "--")
    assert torch.equal(plain, none) and f"{STEPS * launch.clips} of {STEPS * launch.clips} steps computed" in said
    report = tmp_path / "report"
    fast, said = saved(launch, tmp_path / "fast.pt", *run, "--speed", "2", "--report", report, "--")
    (found,) = report_of(report)["models"]
    assert [r["steps"] for r in found["runs"]] == [STEPS] * launch.clips
    assert all(5 <= r["computed"] <= STEPS // 2 for r in found["runs"])  # half of them, if skipping costs nothing
    assert 0 < (fast - plain).norm() < 0.5 * plain.norm()
    assert "steps computed" in said and (report / "steps.png").stat().st_size > 5000
    assert len(json.loads((report / "trace.json").read_text())) >= STEPS * launch.clips


@pytest.mark.parametrize("task", ["s2v-14B", "t2v-A14B"])
def test_ranks_that_share_a_video_do_alike(task, tmp_path):
    script = [SCRIPTS / "wan22/generate.py", "--task", task, "--ckpt_dir", ".", "--ulysses_size", "2", "--save_file"]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--rdzv-backend", "c10d",
                "--rdzv-endpoint", "localhost:0"]  # fmt: skip
    plain, fast = tmp_path / "plain", tmp_path / "fast"
    done = launched(*torchrun, *script, plain)
    assert done.returncode == 0, done.stderr
    run = ["-m", "synccache", "run", "--speed", "2", "--report", tmp_path, "--"]
    done = launched(*torchrun, *run, *script, fast)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("s in the transformer") == 1  # one rank speaks for both
    outputs = [torch.load(f"{path}.{rank}") for path in (plain, fast) for rank in range(2)]
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[2], outputs[3])
    assert not torch.equal(outputs[0], outputs[2])
    (found,), traces = report_of(tmp_path)["models"], sorted(tmp_path.glob("trace.rank*.json"))
    decided = [[row["decision"] for row in json.loads(trace.read_text())] for trace in traces]
    assert len(traces) == 2 and decided[0] == decided[1]
    assert all(5 <= r["computed"] <= STEPS // 2 for r in found["runs"])
