"""The pipeline: files, sizes, what is kept, guidance, refusals; and that caching methods work on it."""

from pathlib import Path

import numpy as np
import pytest
import torch

import synccache
from synccache.anatomies import find
from synccache.errors import InputError
from synccache.stage.pipeline import StagePipeline
from synccache.testing import check_anatomy

CAPTION = "a red cat in the park, the red one speaks"


@pytest.fixture
def pipe(tiny):
    made = StagePipeline.of(*tiny)
    made.set_progress_bar_config(disable=True)
    return made


def run(pipe, prompt=CAPTION, **arguments):
    usual = {"height": 16, "width": 16, "num_frames": 4, "num_inference_steps": 3, "output_type": "pt"}
    generator = torch.Generator().manual_seed(0)
    return pipe(prompt, **{"generator": generator, **usual, **arguments}).frames


def test_a_saved_pipeline_gives_the_same_clip(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    again = StagePipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert torch.allclose(run(pipe), run(again), atol=1e-4)


def test_output_types(pipe):
    shown = run(pipe, output_type="np")
    assert shown.shape == (1, 4, 16, 16, 3) and shown.min() >= 0 and shown.max() <= 1
    assert np.allclose(shown, (run(pipe).permute(0, 2, 3, 4, 1) + 1) / 2)
    assert len(run(pipe, output_type="pil")[0]) == 4


def test_frames_to_continue_stay(pipe):
    start = torch.rand(1, 3, 2, 16, 16)
    assert torch.equal(run(pipe, start=start)[:, :, :2], start)


def test_sounds_text_and_pictures_matter(pipe):
    plain = run(pipe)
    wave = np.sin(np.arange(6000) / 10).astype(np.float32)
    others = [
        run(pipe, audio=[wave]),
        run(pipe, audio=[wave * 0, wave]),
        run(pipe, "a blue box"),
        run(pipe, causal=True),
    ]
    others += [run(pipe, **{name: torch.zeros(1, 3, 16, 16)}) for name in ("first", "reference")]
    others.append(run(pipe, source=torch.zeros(1, 3, 4, 16, 16)))
    assert all(not torch.allclose(plain, other) for other in others)


def test_guidance_of_one_runs_one_branch(pipe):
    calls = []
    handle = pipe.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    run(pipe, guidance_scale=1.0)
    assert len(calls) == 3
    run(pipe)
    assert len(calls) == 9
    handle.remove()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 5}, "even number of frames"),
        ({"height": 18}, "multiples of 4"),
        ({"first": torch.zeros(1, 3, 8, 8)}, "first must be"),
        ({"start": torch.zeros(1, 3, 4, 16, 16)}, "start must be"),
        ({"prompt": "a red dog"}, "dog"),
        ({"output_type": "gif"}, "gif"),
        ({"audio": [np.zeros(10, np.float32)] * 3}, "At most 2"),
    ],
)
def test_what_does_not_fit_is_refused(pipe, arguments, message):
    with pytest.raises(InputError, match=message):
        run(pipe, **arguments)


def test_its_anatomy(tiny, inputs):
    model = tiny[0]
    given = inputs()
    changed = {**given, "audio": -given["audio"]}
    anatomy = find(model)
    assert anatomy.name == "stage" and anatomy.sites == (0, 1, 3)
    live = [f"injectors.{i}" for i in anatomy.sites]
    check_anatomy(model, anatomy, given, changed=changed, live=live)
    check_anatomy(model, anatomy, {**given, "source": torch.ones(2, 3, 4, 16, 16)}, live=live)


def test_a_method_skips_steps_on_the_pipeline(pipe):
    plain = run(pipe, num_inference_steps=12)
    with synccache.cached(pipe, "synccache", threshold=10.0) as handle:
        filled = run(pipe, num_inference_steps=12)
    assert 0 < handle.trace.skipped() < 12 and not torch.allclose(plain, filled)
    assert torch.equal(run(pipe, num_inference_steps=12), plain)


def test_the_packaged_model_is_small_and_runs():
    assets = Path(synccache.__file__).parent / "stage" / "assets"
    assert sum(file.stat().st_size for file in assets.rglob("*")) < 20e6
    packaged = StagePipeline.packaged()
    packaged.set_progress_bar_config(disable=True)
    shown = run(packaged, height=32, width=32, num_frames=8, num_inference_steps=2)
    assert shown.shape == (1, 3, 8, 32, 32) and shown.isfinite().all()
