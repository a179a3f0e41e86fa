"""The evaluation: perfect on the truth, near zero on other clips; a finder learns."""

import math

import pytest
import torch

from synccache.errors import InputError
from synccache.portrait.hearing import FEATURES, TOKENS
from synccache.stage.data import make
from synccache.stage.evaluate import evaluate, held_out, judge, psnr
from synccache.stage.finder import Finder, Seen, loss_of, train_finder, truth_of
from synccache.stage.pipeline import StagePipeline
from synccache.stage.render import render
from synccache.stage.scenes import Dice


class Speech:
    """Sounds whose first feature is how far the mouth opens."""

    def sample(self, rng, frames):
        opening = torch.from_numpy(rng.random(frames, "float32"))
        return opening[:, None, None].expand(-1, TOKENS, FEATURES).contiguous(), opening, torch.zeros(frames)


@pytest.fixture(scope="module")
def held():
    return held_out(Speech(), 40)


def perfect(held, order=None):
    """A finder that knows the truth, of the clips in another order if that is given."""
    film = render(held.scenes, held.truth.opening, torch.zeros_like(held.truth.opening), 32)
    true = truth_of(held.scenes, film, held.truth.opening)
    fields = {name: value if order is None else value[order] for name, value in vars(true).items()}
    return lambda clips: Seen(**fields)


def test_the_truth_is_judged_as_right(held):
    found = judge(perfect(held), held.truth.frames, held)
    assert found["scene"] == found["camera"] == 1 and found["others"] == 0
    assert found["people"] > 0.9 and found["lips"] > 0.98 and found["silent"] < 0.02


def test_other_scenes_are_judged_as_wrong(held):
    found = judge(perfect(held, torch.arange(40).roll(1)), held.truth.frames, held)
    assert found["people"] < 0.6 and found["scene"] < 0.5 and found["others"] > 0.5
    assert math.isnan(found["lips"]) or abs(found["lips"]) < 0.5


def test_held_out_scenes_differ_in_noise_only(held):
    again = held_out(Speech(), 40, seed=1)
    assert torch.equal(held.truth.frames, again.truth.frames) and held.said == again.said
    assert not torch.equal(held.noise, again.noise)


def test_psnr():
    a = torch.zeros(1, 3, 2, 4, 4)
    b = a.clone()
    b[..., 0] = 0.2
    assert psnr(a, b) == pytest.approx(10 * math.log10(4 / 0.01), abs=1e-3)
    weight = torch.zeros(1, 1, 2, 4, 4)
    weight[..., 0] = 1
    assert psnr(a, b, weight) == pytest.approx(20, abs=1e-3)


def test_a_report_on_an_untrained_model(tiny):
    pipe = StagePipeline.of(*tiny)
    pipe.set_progress_bar_config(disable=True)
    torch.manual_seed(0)
    report = evaluate(pipe, Finder().eval(), Speech(), clips=2, steps=2)
    assert set(report) == {"clips", "steps", "guidance_scale", "truth", "generated", "other_captions", "hardness"}
    assert all(math.isfinite(v) for v in report["hardness"].values())


def test_a_finder_learns_and_is_kept(tmp_path):
    losses = []
    finder = train_finder(Speech(), steps=16, batch=4, on_step=lambda _, loss: losses.append(loss))
    assert sum(losses[-4:]) < sum(losses[:4])
    finder.save(tmp_path / "finder.safetensors")
    clips = make("scene", held_out(Speech(), 2).scenes, _tracks(2), 32, Dice(torch.Generator().manual_seed(0))).frames
    seen, again = finder(clips), Finder.load(tmp_path / "finder.safetensors")(clips)
    assert torch.allclose(seen.person, again.person, atol=0.02) and seen.person.shape == (2, 8, 32, 32)
    assert seen.colour.shape == (2, 8, 8, 32, 32) and seen.scene.shape == seen.camera.shape == (2, 6)
    with pytest.raises(InputError, match="No finder"):
        Finder.load(tmp_path / "other")


def test_the_truth_costs_least(held):
    film = render(held.scenes, held.truth.opening, torch.zeros_like(held.truth.opening), 32)
    true = truth_of(held.scenes, film, held.truth.opening)
    good = Seen(true.person, true.mouth, true.colour * 20, true.opening, true.scene * 20, true.camera * 20)
    bad = Seen(true.person, true.mouth, true.colour * -20, 1 - true.opening, true.scene * -20, true.camera * -20)
    assert loss_of(good, true) < 0.3 < loss_of(bad, true)


def _tracks(batch):
    return torch.zeros(batch, 2, 8, TOKENS, FEATURES), torch.zeros(batch, 2, 8), torch.zeros(batch, 2, 8)
