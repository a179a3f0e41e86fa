"""Masks: on the person, soft, read from files with clear errors, pooled to tokens without losing weight."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from synccache.errors import InputError
from synccache.masks import face_mask, load_mask, person_mask, to_token_grid
from synccache.portrait.framing import detect_face


@pytest.fixture(scope="module")
def astronaut():
    photo = data.astronaut()
    return photo, detect_face(photo)


def test_the_masks_lie_on_the_astronaut(astronaut):
    photo, face = astronaut
    person, inner = person_mask(photo, face), face_mask(photo, face)
    for mask in (person, inner):
        assert mask.shape == photo.shape[:2] and mask.dtype == np.float32 and mask.min() >= 0 and mask.max() <= 1
    x, y = (round(c) for c in face.centre)
    assert person[y, x] == inner[y, x] == 1
    assert person[45, 225] == 1 and inner[45, 225] < 0.1  # hair
    assert person[400, 225] == 1 and inner[400, 225] == 0  # suit
    assert person[40, 420] == 0 and person[100, 20] == 0  # shuttle, flag
    assert np.abs(np.diff(person, axis=0)).max() < 0.2  # soft
    assert (inner <= person + 1e-6).all()


def test_without_a_face_the_mask_is_uniform_and_warns_once():
    blank = np.full((48, 64, 3), 90, np.uint8)
    with pytest.warns(UserWarning, match="no face was found") as caught:
        mask = person_mask(blank)
    assert len(caught) == 1 and (mask == 1).all() and mask.shape == (48, 64)


def test_the_face_is_looked_for_when_not_given(astronaut):
    photo, face = astronaut
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(person_mask(photo), person_mask(photo, face))


def test_pooling_keeps_the_mean_and_the_order():
    mask = np.random.default_rng(0).random((6, 32, 48)).astype(np.float32)
    tokens = to_token_grid(mask, (3, 4, 6))
    assert tokens.shape == (72,) and tokens.dtype == torch.float32
    assert torch.isclose(tokens.mean(), torch.tensor(mask.mean()))
    assert torch.isclose(tokens.reshape(3, 4, 6)[1, 2, 3], torch.tensor(mask[2:4, 16:24, 24:32].mean()))
    still = to_token_grid(mask[0], (3, 4, 6)).reshape(3, 24)
    assert torch.equal(still[0], still[2]) and torch.isclose(still.mean(), torch.tensor(mask[0].mean()))


def test_pooling_takes_grids_that_do_not_divide_the_mask():
    tokens = to_token_grid(torch.ones(50, 70), (2, 7, 9))
    assert tokens.shape == (126,) and torch.allclose(tokens, torch.ones(126))


@pytest.mark.parametrize(
    ("mask", "grid"),
    [(np.ones(4), (1, 2, 2)), (np.ones((0, 4)), (1, 2, 2)), (np.ones((4, 4)), (0, 2, 2)), (np.ones((4, 4)), (2, 2))],
)
def test_pooling_refuses_what_it_cannot_pool(mask, grid):
    with pytest.raises(InputError):
        to_token_grid(mask, grid)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P", "I;16"])
def test_mask_files_of_any_kind_are_read(tmp_path, mode):
    white = np.zeros((40, 60), np.uint8)
    white[:, 30:] = 255
    picture = Image.fromarray(white.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(white).convert(mode)
    picture.save(tmp_path / "mask.png")
    mask = load_mask(tmp_path / "mask.png", (20, 30))
    assert mask.shape == (20, 30) and mask.dtype == np.float32
    assert mask[:, :14].max() < 0.01 and mask[:, 16:].min() > 0.99
    assert load_mask(tmp_path / "mask.png", 8).shape == (8, 8)


def test_a_mask_turns_as_its_exif_orientation_says(tmp_path):
    white = np.zeros((40, 60), np.uint8)
    white[:, 30:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter: the right half comes to lie at the bottom
    Image.fromarray(white).save(tmp_path / "mask.png", exif=exif)
    mask = load_mask(tmp_path / "mask.png", (60, 40))
    assert mask[:28].max() < 0.01 and mask[32:].min() > 0.99


def test_bad_mask_files_are_refused_with_a_reason(tmp_path):
    path = tmp_path / "mask.png"
    with pytest.raises(InputError, match="was not found"):
        load_mask(path, 8)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read"):
        load_mask(path, 8)
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match="cannot be read"):
        load_mask(path, 8)
    Image.new("1", (8000, 7000)).save(path)
    with pytest.raises(InputError, match="8000x7000"):
        load_mask(path, 8)
    Image.new("L", (20, 20)).save(path)
    with pytest.raises(InputError, match="black"):
        load_mask(path, 8)
