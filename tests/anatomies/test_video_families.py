"""What is special about one family of video models or another."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from models import hunyuan, ltx, others, wan

import synccache
from synccache import Method, anatomies
from synccache.forecasters import Reuse
from synccache.gates import Interval, Listed, Never
from synccache.scopes import Segments
from synccache.testing import Pipeline

FIRST = Method(Listed(frozenset({0})), Segments(), Reuse())
EVERY_2 = Method(Interval(2), Segments(), Reuse())


class TwoExperts(Pipeline):
    """Wan2.2: the first expert for the noisy half of the steps, the second for the rest; guidance in two calls."""

    def __init__(self) -> None:
        super().__init__(wan.build(layers=3), wan.build(layers=3, ffn_dim=40))

    def __call__(self, steps=12):
        inputs = [wan.text(seed) for seed in (0, 1)]
        x = inputs[0]["hidden_states"]
        self.scheduler.set_timesteps(steps)
        for index, t in enumerate(self.scheduler.timesteps):
            model = self.transformer if index < steps // 2 else self.transformer_2
            cond, uncond = (model(**{**i, "hidden_states": x}, timestep=t.expand(1))[0] for i in inputs)
            x = self.scheduler.step(uncond + 2 * (cond - uncond), index, x)
        return x


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def test_wan_with_two_experts_is_one_run_and_each_expert_begins_computed():
    pipe = TwoExperts()
    plain = pipe()
    with synccache.cached(pipe, Method(Never(), Segments(), Reuse())) as handle:
        assert torch.equal(pipe(), plain)
    with synccache.cached(pipe, FIRST) as handle:
        out = pipe()
        assert handle.trace.decisions() == ["computed", *["skipped"] * 5] * 2
        assert len(handle.trace.runs) == 1
        assert [r.expert for r in handle.trace.steps()] == [0] * 6 + [1] * 6
    assert torch.isfinite(out).all() and not torch.equal(out, plain)
    assert torch.equal(pipe(), plain)


def test_sites_are_read_from_the_model():
    model = wan.build_vace()
    model.register_to_config(vace_layers=[0, 3, 2])
    assert anatomies.find(model).sites == (0, 2, 3)
    assert anatomies.find(wan.build_animate()).sites == (0, 2, 4)
    assert anatomies.find(others.build_cosmos(controlnet_block_every_n=3)).sites == (0, 3)
    assert anatomies.find(others.build_cosmos()).sites == ()


def test_with_a_timestep_for_each_frame_every_one_that_moves_is_a_step():
    """Later frames wait at the first timestep while earlier ones go down."""
    model, levels, inputs = wan.build_skyreels(), [900.0, 700.0, 500.0, 300.0], wan.text(0)
    with synccache.cached(model, FIRST) as handle:
        for i in range(6):
            frames = [levels[min(max(i - wait, 0), 3)] for wait in (0, 1, 2)]
            model(timestep=torch.tensor([frames]), enable_diffusion_forcing=True, **inputs)
        assert [r.decision for r in handle.trace] == ["computed"] + ["skipped"] * 5
        assert [r.step for r in handle.trace] == [0, 1, 2, 3, 4, 5]
        assert len(handle.trace.runs) == 1


def test_hunyuan_double_and_single_blocks_are_segments_of_their_own_and_carry_both_streams():
    model = hunyuan.build()
    stored = set()
    with synccache.cached(model, FIRST) as handle:
        handle.on_store = lambda s: stored.add((s.region.id, s.stream)) or True
        model(timestep=torch.tensor([900.0]), **hunyuan.inputs(0))
        assert [r.members for r in handle.regions] == [(0, 1, 2), (3, 4, 5)]
    streams = ("hidden_states", "encoder_hidden_states")
    assert stored == {(f"blocks {run}", stream) for run in ("0-2", "3-5") for stream in streams}


def test_ltx_2_fills_in_video_and_audio():
    model, shapes = ltx.build_2(), {}
    with synccache.cached(model, FIRST) as handle:
        handle.on_store = lambda s: shapes.update({s.stream: tuple(s.value.shape)}) or True
        video, audio = model(timestep=torch.tensor([1e-9]), **ltx.inputs_2(0))
        assert shapes == {"hidden_states": (1, 24, 16), "audio_hidden_states": (1, 5, 8)}
        again = model(timestep=torch.tensor([1e-10]), **ltx.inputs_2(0))
        assert handle.trace.decisions() == ["computed", "skipped"]
    torch.testing.assert_close(again, (video, audio), rtol=1e-5, atol=1e-5)


def test_ltx_2_passes_of_one_step_are_branches():
    """Guidance over modalities calls a third time, with the conditional pass's very tensors and another flag."""
    model, inputs = ltx.build_2(), ltx.inputs_2(0)
    with synccache.cached(model, EVERY_2) as handle:
        for t in (900.0, 800.0, 700.0, 600.0):
            for isolate in (False, True):
                model(timestep=torch.tensor([t]), isolate_modalities=isolate, **inputs)
        assert [(r.step, r.branch) for r in handle.trace] == [(s, b) for s in range(4) for b in (0, 1)]
        assert handle.trace.decisions() == ["computed", "skipped"] * 2


@pytest.mark.filterwarnings("ignore:In CPU autocast")
def test_a_mochi_schedule_is_one_run_though_its_timesteps_go_up():
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    scheduler.set_timesteps(10)
    times = scheduler.timesteps
    assert bool((times.diff() > 0).all())
    model = others.build_mochi()
    with synccache.cached(model, EVERY_2) as handle:
        for index, t in enumerate(times):
            inputs = others.mochi(0)
            inputs["hidden_states"] = inputs["hidden_states"] * (1 - 0.02 * index)
            model(timestep=t.expand(1), **inputs)
        assert len(handle.trace.runs) == 1
        assert handle.trace.decisions() == ["computed", "skipped"] * 5
