"""What is rendered is what is said: people's masks, mouths, captions, edits."""

from dataclasses import replace

import pytest
import torch

from synccache.errors import InputError
from synccache.stage.captions import captions, edits
from synccache.stage.render import camera, render, seconds
from synccache.stage.scenes import PEOPLE, Dice, Scenes, with_person
from synccache.stage.words import CAMERAS, CAPTION_TOKENS, COLOUR_NAMES, COLOURS, PLACES, SCENES, WORDS, tokens_of
from synccache.stage.world import COVERED, draw

FRAMES = 8


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return draw(Dice(torch.Generator().manual_seed(0)), 96, FRAMES)


def film(scenes, opening=0.0, size=32):
    shape = len(scenes), PEOPLE, FRAMES
    return render(scenes, torch.full(shape, opening), torch.zeros(shape), size)


def test_people_cover_a_fair_part_of_the_frame(scenes):
    covered = film(scenes).people.sum(1).mean((1, 2, 3))
    assert covered.min() > COVERED[0] - 0.03 and covered.max() < COVERED[1] + 0.03
    assert {1, 2, 3} == set(scenes.count.tolist())


def test_frames_and_masks_are_in_range_at_every_size(scenes):
    for size in (32, 48, 64, (32, 48)):
        found = film(scenes[:4], size=size)
        height, width = (size, size) if isinstance(size, int) else size
        assert found.frames.shape == (4, 3, FRAMES, height, width)
        assert found.people.shape == found.mouths.shape == (4, PEOPLE, FRAMES, height, width)
        assert found.frames.abs().max() <= 1 and found.frames.isfinite().all()
        assert found.people.min() >= 0 and found.people.sum(1).max() <= 1 + 1e-5
        assert (found.mouths <= found.people + 1e-5).all()


def test_a_scene_looks_alike_at_every_size(scenes):
    small, large = film(scenes[:16], size=32).frames, film(scenes[:16], size=64).frames
    pooled = torch.nn.functional.avg_pool3d(large, (1, 2, 2))
    assert (pooled - small).abs().mean() < 0.06


def test_those_who_do_not_exist_are_not_seen(scenes):
    missing = torch.arange(PEOPLE)[None] >= scenes.count[:, None]
    assert film(scenes).people[missing].max() == 0


def test_a_mouth_opens_where_its_mask_is(scenes):
    dry = replace(scenes, weather=torch.zeros_like(scenes.weather))
    shut, wide = film(dry, 0.0), film(dry, 1.0)
    changed = (wide.frames - shut.frames).abs().sum(1)
    assert (changed * (1 - shut.mouths.sum(1).clamp(0, 1))).mean() < 0.15 * changed.mean()
    dark = [
        (f.frames.mean(1) * shut.mouths[:, 0]).sum((1, 2, 3)) / (shut.mouths[:, 0].sum((1, 2, 3)) + 1)
        for f in (shut, wide)
    ]
    seen = shut.mouths[:, 0].sum((1, 2, 3)) > 20
    assert seen.sum() > 40 and (dark[1] < dark[0])[seen].float().mean() > 0.97


def test_mouths_follow_their_own_track(scenes):
    tracks = torch.rand(len(scenes), 2, FRAMES, generator=torch.Generator().manual_seed(1))
    mouths = scenes.mouths(tracks)
    for row in range(len(scenes)):
        for person in range(PEOPLE):
            stream = int(scenes.speaker[row, person])
            true = tracks[row, stream] if stream >= 0 else torch.zeros(FRAMES)
            assert torch.equal(mouths[row, person], true)


def test_two_speak_only_where_two_are_there(scenes):
    streams = [sorted(s for s in row if s >= 0) for row in scenes.speaker.tolist()]
    assert all(
        found == list(range(len(found))) and len(found) <= count
        for found, count in zip(streams, scenes.count, strict=True)
    )
    assert {0, 1, 2} == {len(found) for found in streams}
    assert (scenes.speaker[torch.arange(PEOPLE)[None] >= scenes.count[:, None]] == -1).all()


def test_the_left_one_stands_left():
    scenes = draw(Dice(torch.Generator().manual_seed(3)), 200, FRAMES)
    x = scenes.place[..., 0]
    assert (x[:, 1] > x[:, 0])[scenes.count > 1].float().mean() > 0.99
    assert (x[:, 2] > x[:, 1])[scenes.count > 2].float().mean() > 0.97


def test_the_camera_does_what_its_name_says(scenes):
    across, _, zoom = (v.flatten(1) for v in camera(scenes, seconds(FRAMES)))
    for row, kind in enumerate(CAMERAS[i] for i in scenes.camera.tolist()):
        moved, closer = float(across[row, -1] - across[row, 0]), float(zoom[row, -1] / zoom[row, 0])
        if kind == "pans right":
            assert moved > 0
        if kind == "pans left":
            assert moved < 0
        assert (closer < 0.9) == (kind == "nears") and (closer > 1.1) == (kind == "leaves")


def test_complete_captions_say_what_is_there(scenes):
    dice = Dice(torch.Generator().manual_seed(2))
    for row, caption in enumerate(captions(scenes, dice, complete=True)):
        count = int(scenes.count[row])
        names = [COLOUR_NAMES[i] for i in scenes.colour[row, :count].tolist()]
        assert all(f"{name} " in caption for name in names) and SCENES[int(scenes.kind[row])] in caption
        assert CAMERAS[int(scenes.camera[row])] in caption
        for stream, verb in enumerate(("speaks", "answers")):
            who = (scenes.speaker[row] == stream).nonzero()[:, 0].tolist()
            assert (verb in caption) == bool(who)
            for person in who:
                assert (
                    f"the {names[person]} one {verb}" in caption or f"the {PLACES[count][person]} one {verb}" in caption
                )
    assert tokens_of(captions(scenes, dice)).shape == (len(scenes), CAPTION_TOKENS)


def test_an_edit_changes_what_it_says(scenes):
    before, after, said = edits(scenes, Dice(torch.Generator().manual_seed(4)))
    old, new = film(before).frames, film(after).frames
    for row, instruction in enumerate(said):
        words = instruction.split()
        assert len(tokens_of([instruction])) == 1
        if words[0] == "paint":
            assert (before.colour[row] != after.colour[row]).sum() == 1 and COLOUR_NAMES.index(
                words[-1]
            ) in after.colour[row]
        elif words[0] in ("add", "remove"):
            assert (before.weather[row] == 0) == (words[0] == "add") and before.weather[row] != after.weather[row]
        elif words[-1] == "smile":
            assert (after.smile[row] - before.smile[row]).sum() == 1
        else:
            assert SCENES[int(after.kind[row])] == words[-1] and before.kind[row] != after.kind[row]
    assert ((old - new).abs().mean((1, 2, 3, 4)) > 1e-4).float().mean() > 0.9


def test_people_are_painted_in_their_colour(scenes):
    one = replace(scenes, **{n: torch.zeros_like(getattr(scenes, n)) for n in ("prop", "weather")})
    person = torch.zeros(len(one), dtype=torch.int64)
    for number, colour in enumerate(COLOURS.values()):
        painted = film(with_person(one, person, colour=person + number))
        head = painted.people[:, 0] * (painted.frames - (2 * torch.tensor(colour) - 1)[:, None, None, None]).abs().mean(
            1
        ).lt(0.3)
        assert head.mean() > 0.01


def test_words_are_known_once_and_unknown_ones_refused():
    assert len(set(WORDS)) == len(WORDS)
    assert tokens_of(["A red cat, in the PARK!"])[0, :4].tolist() == [
        WORDS.index(w) for w in ("red", "cat", "park", "")
    ]
    with pytest.raises(InputError, match="'dog'"):
        tokens_of(["a red dog"])
    with pytest.raises(InputError, match="20 known words"):
        tokens_of(["red " * 21])
