"""Training resumes exactly and learns."""

import contextlib
import itertools
import json
from dataclasses import replace

import pytest
import torch

from synccache.errors import InputError
from synccache.portrait.train import TrainSettings, learning_rate_scale, train
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer

TINY = PortraitConfig(
    image_size=32, patch_size=8, overlap=2, dim=32, ffn_dim=48, heads=2, layers=3, inject_after=(0, 2)
)


def source(seed, start, batch, frames, size):
    """Squares that grow with the loudness of the first audio feature."""
    for index in itertools.count(start):
        generator = torch.Generator().manual_seed(seed * 1000 + index)
        loud = torch.rand(batch, frames + 2, generator=generator)
        pixels = torch.zeros(batch, frames + 2, size, size, 3, dtype=torch.uint8)
        pixels[:, :, 8:24, 8:24] = (loud * 200)[..., None, None, None].byte()
        yield {
            "frames": pixels[:, 2:],
            "before": pixels[:, :2],
            "portrait": torch.zeros(batch, size, size, 3, dtype=torch.uint8),
            "features": loud[:, 2:, None, None].expand(-1, -1, 5, 64).contiguous(),
            "lips": loud[:, 2:, None].expand(-1, -1, 2).contiguous(),
            "mouth": torch.ones(batch, size, size),
            "person": torch.ones(batch, size, size),
        }


SETTINGS = TrainSettings(steps=6, warmup=2, phases=((0.5, 2, 3), (0.5, 3, 2)))


def weights(path):
    return PortraitTransformer.load(path).state_dict()


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(tmp_path):
    whole = train(tmp_path / "whole", SETTINGS, config=TINY, source=source)

    class Stop(Exception):
        pass

    def stop(step, _loss):
        if step == 4:
            raise Stop

    with contextlib.suppress(Stop):
        train(tmp_path / "parts", SETTINGS, config=TINY, source=source, on_step=stop, save_every=0)
    resumed = []
    parts = train(tmp_path / "parts", SETTINGS, config=TINY, source=source, on_step=lambda s, _: resumed.append(s))
    assert resumed == [4, 5]
    assert all(torch.equal(v, weights(whole)[k]) for k, v in weights(parts).items())
    assert [s for s, _ in json.loads((tmp_path / "parts" / "loss.json").read_text())] == list(range(6))


def test_a_checkpoint_that_cannot_be_used_is_refused_and_kept(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    for found, complaint in ((b"PK broken", "cannot be read"), (None, "another structure")):
        if found is None:
            checkpoint.unlink()
            train(tmp_path, replace(SETTINGS, steps=1), config=TINY, source=source)
        else:
            checkpoint.write_bytes(found)
        before = checkpoint.read_bytes()
        with pytest.raises(InputError, match=complaint):
            train(tmp_path, SETTINGS, config=replace(TINY, dim=16), source=source)
        assert checkpoint.read_bytes() == before


def test_it_learns_what_the_audio_says(tmp_path):
    losses = []
    settings = TrainSettings(steps=60, warmup=5, learning_rate=3e-3, phases=((1.0, 2, 8),))
    train(tmp_path, settings, config=TINY, source=source, on_step=lambda _, loss: losses.append(loss))
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_the_learning_rate_warms_up_and_decays():
    scales = [learning_rate_scale(s, TrainSettings(steps=1000, warmup=100)) for s in (0, 99, 550, 999)]
    assert scales[0] == 0.01 and scales[1] == 1.0 and 0.4 < scales[2] < 0.6 and scales[3] < 0.021
