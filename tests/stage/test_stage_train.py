"""Training: batches by number, exact resume, what a run learns."""

import contextlib
from dataclasses import replace

import pytest
import torch

from synccache.errors import InputError
from synccache.portrait.hearing import FEATURES, TOKENS
from synccache.stage.data import TASKS, Shape, World
from synccache.stage.feed import Steps, batches
from synccache.stage.files import about, load, save
from synccache.stage.schedule import TrainSettings, plan, rate_scale
from synccache.stage.text import StageTextEncoder
from synccache.stage.train import loss_of, train
from synccache.stage.transformer import StageTransformer


class Speech:
    """Sounds whose first feature is how far the mouth opens."""

    def sample(self, rng, frames):
        opening = torch.from_numpy(rng.random(frames, "float32"))
        return opening[:, None, None].expand(-1, TOKENS, FEATURES).contiguous(), opening, torch.zeros(frames)


@pytest.fixture
def world():
    return World(speech=Speech())


SETTINGS = TrainSettings(steps=5, warmup=1, batch=2, half=False)
SHAPE = Shape(4, 32, 3)


def models():
    torch.manual_seed(0)
    return StageTransformer(32, 48, 2, 3, (0, 2)), StageTextEncoder(32, 2, 1)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_is_a_function_of_its_number(world, task):
    a, again, b = (world.batch(task, SHAPE, step) for step in (7, 7, 8))
    assert torch.equal(a.frames, again.frames) and torch.equal(a.audio, again.audio)
    assert not torch.equal(a.frames, b.frames)
    assert a.frames.shape == (3, 3, 4, 32, 32) and (a.words >= 0).all()
    assert (a.first is not None) == (task == "first") and (a.reference is not None) == (task == "reference")
    assert (a.source is not None) == (task == "edit") and (a.kept > 0) == (task == "continue")
    if task == "first":
        assert torch.equal(a.first, a.frames[:, :, 0])


def test_only_who_speaks_is_heard(world):
    batch = world.batch("scene", Shape(4, 32, 40), 0)
    present = batch.audio[..., -1].amax((2, 3))
    opening = batch.audio[..., 0].mean(3)  # [B, STREAMS, T]
    for row in range(40):
        speaking = [o for o in batch.opening[row] if o.max() > 0]
        assert len(speaking) == int(present[row].sum())
        for heard in speaking:
            assert min((heard - track).abs().max() for track in opening[row]) < 1e-6


def test_every_task_shape_and_mode_is_planned():
    found = [plan(step, TrainSettings()) for step in range(400, 1200)]
    assert {task for task, *_ in found} == set(TASKS)
    assert {(s.frames, s.size) for _, s, *_ in found} >= {(4, 32), (8, 32), (16, 32), (8, 48), (4, 64)}
    assert {causal for *_, causal, _ in found} == {apart for *_, apart in found} == {True, False}


def test_the_rate_rises_stays_and_falls():
    settings = TrainSettings(steps=1000, warmup=10, decay=0.25)
    assert [round(rate_scale(s, settings), 3) for s in (0, 9, 500, 750, 875, 999)] == [0.1, 1, 1, 1, 0.5, 0.02]


def test_batches_come_in_order_from_processes_too(world):
    data = Steps(0, lambda step: ("scene", SHAPE, step), world)
    assert [torch.equal(b.frames, data[i].frames) for i, b in enumerate(batches(data, 3, 5), 3)] == [True, True]


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(tmp_path, world):
    whole = train(tmp_path / "whole", SETTINGS, models=models(), world=world)

    class Stop(Exception):
        pass

    def stop(step, _loss):
        if step == 3:
            raise Stop

    with contextlib.suppress(Stop):
        train(tmp_path / "parts", SETTINGS, models=models(), world=world, on_step=stop, save_every=0)
    resumed = []
    parts = train(tmp_path / "parts", SETTINGS, models=models(), world=world, on_step=lambda s, _: resumed.append(s))
    assert resumed == [3, 4]
    for a, b in zip(load(whole), load(parts), strict=True):
        assert same(a.state_dict(), b.state_dict())


def test_weights_are_gone_on_from(tmp_path, world):
    train(tmp_path / "first", replace(SETTINGS, steps=2), models=models(), world=world)
    assert about(tmp_path / "first")["step"] == 2 and about(tmp_path / "first")["clips"] > 0
    seen = []
    train(
        tmp_path / "more", replace(SETTINGS, steps=4, start=2), models=load(tmp_path / "first"), spent=(1.0, 4),
        world=world, on_step=lambda step, _: seen.append(step),
    )  # fmt: skip
    found = about(tmp_path / "more")
    assert seen == [2, 3] and found["step"] == 4 and found["clips"] > 4 and found["hours"] >= 1
    assert rate_scale(2, replace(SETTINGS, start=2, warmup=10, steps=100)) == 0.1


def test_a_foreign_checkpoint_is_refused(tmp_path, world):
    (tmp_path / "checkpoint.pt").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be read"):
        train(tmp_path, SETTINGS, models=models(), world=world)
    torch.save({"step": 1}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="it lacks"):
        train(tmp_path, SETTINGS, models=models(), world=world)


def test_it_learns(tmp_path, world):
    losses = []
    settings = replace(SETTINGS, steps=50, batch=4, warmup=5)
    train(tmp_path, settings, models=models(), world=world, on_step=lambda _, loss: losses.append(loss))
    assert sum(losses[-10:]) < 0.75 * sum(losses[:10])


def test_clean_frames_cost_nothing(world):
    """Another error in the frames that are given leaves the loss as it is."""
    batch = replace(world.batch("continue", SHAPE, 1), kept=1)
    transformer, encoder = models()
    loss = loss_of(transformer, encoder, batch, SETTINGS, torch.Generator().manual_seed(0))
    masks = {name: getattr(batch, name).clone() for name in ("people", "mouths")}
    for mask in masks.values():
        mask[:, :, :2] += 5
    again = loss_of(transformer, encoder, replace(batch, **masks), SETTINGS, torch.Generator().manual_seed(0))
    assert torch.equal(loss, again)


def test_files_keep_the_weights_in_half(tmp_path):
    pair = models()
    save(tmp_path, *pair, {"step": 3})
    for found, made in zip(load(tmp_path), pair, strict=True):
        assert all(torch.equal(v, made.state_dict()[k].half().float()) for k, v in found.state_dict().items())
        assert not found.training
    with pytest.raises(InputError, match="No stage model"):
        load(tmp_path / "nowhere")
