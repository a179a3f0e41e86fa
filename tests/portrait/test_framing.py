"""Faces are found where they are, and cropped so that eyes and mouth lie where the portrait model expects them."""

import cv2
import numpy as np
import pytest
from skimage import data

from synccache.errors import InputError
from synccache.portrait.framing import Face, canonical_crop, detect_face, detect_faces, mouth_region
from synccache.portrait.render import reference, sample_identity

# Read off the photo by eye, in pixels: the pupils and the middle of the lips.
LEFT_EYE, RIGHT_EYE, LIPS = (203, 100), (246, 103), (225, 146)


@pytest.fixture(scope="module")
def astronaut():
    photo = data.astronaut()
    return photo, detect_face(photo)


def test_the_astronauts_features_lie_in_the_canonical_places(astronaut):
    photo, face = astronaut
    crop = canonical_crop(photo, face, 128)
    assert crop.pixels.shape == (128, 128, 3) and crop.pixels.dtype == np.uint8

    def place(point):
        return (point[0] - crop.left) / crop.side, (point[1] - crop.top) / crop.side

    (lu, lv), (ru, rv), (mu, mv) = map(place, (LEFT_EYE, RIGHT_EYE, LIPS))
    assert abs((lv + rv) / 2 - 0.42) < 0.03 and abs((lu + ru) / 2 - 0.5) < 0.03
    assert abs(mv - 0.655) < 0.03 and abs(mu - 0.5) < 0.04
    assert 0.18 < ru - lu < 0.28
    assert mouth_region(128)[round(mv * 128), round(mu * 128)] > 0.9


def test_a_large_photo_gives_the_same_crop(astronaut):
    photo, face = astronaut
    large = detect_face(cv2.resize(photo, (2048, 2048), interpolation=cv2.INTER_CUBIC))
    assert abs(large.left / 4 - face.left) < 8 and abs(large.size / 4 - face.size) < 8


def test_rendered_people_are_taken_for_people():
    found = 0
    for seed in range(5):
        rng = np.random.default_rng(100 + seed)
        photo = reference(sample_identity(rng), rng)
        face = detect_face(cv2.resize(photo, (256, 256), interpolation=cv2.INTER_CUBIC))
        found += face is not None and face.size > 90
    assert found >= 4


def test_two_faces_are_both_found_and_the_larger_comes_first(astronaut):
    photo, face = astronaut
    small = cv2.resize(photo, (350, 350), interpolation=cv2.INTER_AREA)
    both = np.zeros((512, 862, 3), np.uint8)
    both[:350, :350], both[:, 350:] = small, photo
    first, second = detect_faces(both)
    assert abs(first.centre[0] - 350 - face.centre[0]) < 8 and second.size < 0.9 * first.size
    assert abs(second.centre[0] / 350 - face.centre[0] / 512) < 0.02
    assert detect_faces(photo) == [face]


def test_no_face_is_no_face():
    assert detect_face(np.ascontiguousarray(data.coffee()[::4, ::4])) is None
    assert detect_face(np.full((64, 64, 3), 128, np.uint8)) is None


def test_a_crop_beyond_the_border_mirrors_the_photo():
    photo = np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8)
    crop = canonical_crop(photo, Face(0, 0, 60, 1.0), 64)
    assert crop.left < 0 and crop.top < 0 and crop.pixels.shape == (64, 64, 3)
    assert crop.pixels.std() > 5


def test_pasting_back_an_untouched_crop_changes_almost_nothing(astronaut):
    photo, face = astronaut
    crop = canonical_crop(photo, face, round(1.9 * face.size))
    back = crop.paste(np.stack([crop.pixels] * 2), photo)
    assert back.shape == (2, *photo.shape)
    assert np.abs(back.astype(int) - photo).max() <= 1
    black = crop.paste(np.zeros((1, 64, 64, 3), np.uint8), photo)[0]
    x, y = (round(c) for c in face.centre)
    assert black[y, x].max() == 0 and np.array_equal(black[300:], photo[300:])


@pytest.mark.parametrize(
    "image", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3)), np.zeros((4, 4, 3), np.uint8), 3]
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(InputError):
        detect_face(image)


def test_no_face_cannot_be_cropped():
    with pytest.raises(InputError, match="no face was found"):
        canonical_crop(np.zeros((64, 64, 3), np.uint8), None)
    with pytest.raises(InputError, match="outside"):
        canonical_crop(np.zeros((64, 64, 3), np.uint8), Face(900, 900, 40, 1.0))
