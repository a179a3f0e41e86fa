"""Photos given as masks, masks of another shape than the video, and the line that a notice points to."""

import numpy as np
import pytest
import torch
from loops import LATENT, noise, prompt, small
from PIL import Image
from skimage.data import astronaut

import synccache
from synccache import InputError, Notice
from synccache.core.mask import checked_mask, misfit
from synccache.core.notices import notice
from synccache.masks import load_mask

STEPS = 12


def steps_of(model):
    with torch.no_grad():
        for t in torch.linspace(1000, 50, STEPS):
            model(noise(1, *LATENT), t.expand(1), **prompt(1), return_dict=False)


@pytest.fixture
def person():
    found = np.zeros((40, 60), np.uint8)
    found[10:30, 20:40] = 255
    return found


def coloured(path, values):
    Image.fromarray(values).save(path)
    return path


def test_a_colour_photo_is_no_mask(tmp_path):
    photo = coloured(tmp_path / "me.jpg", astronaut())
    for mask in (photo, Image.open(photo), Image.open(photo).convert("P"), Image.open(photo).convert("CMYK")):
        with pytest.raises(InputError, match=r"colour picture \(\d+% of .*masks\.person\.person_mask"):
            synccache.apply(small(), "synccache", mask=mask)
    with pytest.raises(InputError, match=r"me\.jpg is a colour picture"):
        load_mask(photo, 32)


def test_a_mask_stored_in_colour_is_one(person, tmp_path):
    """Black and white, or grey, as JPEG stores it with a little colour at the edges."""
    soft = np.repeat(np.linspace(0, 255, 60).astype(np.uint8)[None], 40, 0)
    for number, values in enumerate((person, soft)):
        rgb = np.stack([values] * 3, -1)
        for path in (tmp_path / f"{number}.png", tmp_path / f"{number}.jpg"):
            found = checked_mask(coloured(path, rgb))
            assert float((found - torch.from_numpy(values / 255)).abs().mean()) < 0.02
            assert load_mask(path, (40, 60)).shape == (40, 60)


@pytest.mark.parametrize(
    ("shape", "says"),
    [((40, 240), "240 × 40 pixels, the video 4 × 4"), ((240, 40), "another shape"), ((2, 40, 60), "has 2 frames"),
     ((40, 60), None), ((60, 40), None), ((4, 40, 40), None), ((1, 40, 40), None), ((1, 48), None)],
)  # fmt: skip
def test_a_mask_of_another_shape_than_the_video_is_said(shape, says):
    values = torch.zeros(shape)
    values.view(-1)[: values.numel() // 3] = 1
    found = misfit(values, (3, 4, 4))
    assert found is None if says is None else says in found
    assert misfit(torch.ones(shape), (3, 4, 4)) is None


def test_a_mask_of_another_shape_is_said_once_while_the_model_runs():
    model, mask = small(), torch.zeros(8, 80)
    mask[:, :30] = 1
    with synccache.cached(model, "synccache", mask=mask, threshold=0.3, steps=STEPS):
        with pytest.warns(Notice, match="mask is stretched to the video: it has 80 × 8 pixels") as said:
            steps_of(model)
        assert len(said) == 1 and said[0].filename == __file__


def test_a_notice_points_to_the_line_outside_of_all_libraries():
    """Also where a pipeline of diffusers stands between, or a ``with`` statement."""
    between = {"__name__": "diffusers.pipelines.some"}
    exec("def call(function):\n    with function():\n        pass", between)

    ours = {"__name__": "synccache.some", "notice": notice}
    exec(
        "from contextlib import contextmanager\n@contextmanager\ndef saying():\n    notice('something')\n    yield",
        ours,
    )
    with pytest.warns(Notice, match="something") as said:
        between["call"](ours["saying"])
    assert said[0].filename == __file__
