"""The image anatomies' token grids, and what is particular to one of them."""

import pytest
import torch
from models.image import build_flux2, build_sd3, build_z_image, flux, flux2, positions, qwen, sd3, z_image

import synccache
from synccache import Method
from synccache.anatomies import flux as flux_anatomy
from synccache.anatomies import sd3 as sd3_anatomy
from synccache.anatomies import z_image as z_image_anatomy
from synccache.anatomies.image_parts import PositionGrid, picture_grid
from synccache.anatomies.qwen_image import _shapes_grid
from synccache.forecasters import Reuse
from synccache.gates import Listed
from synccache.scopes import Segments
from synccache.testing import distance


@pytest.mark.parametrize("arguments", [flux(0), flux(0, references=2), flux2(0), flux2(0, references=2)])
def test_packed_tokens_are_counted_up_to_the_first_reference(arguments):
    assert PositionGrid("img_ids")(arguments) == (1, 4, 6)


def test_a_reference_in_the_same_row_is_another_picture():
    assert PositionGrid("img_ids")({"img_ids": positions(3, (0, 1, 6), (1, 1, 2))}) == (1, 1, 6)


def test_positions_in_bfloat16_share_rows_beyond_256_and_still_tell_the_size():
    ids = positions(3, (0, 300, 2)).to(torch.bfloat16)
    assert len(ids[:, 1].unique()) < 300
    assert PositionGrid("img_ids")({"img_ids": ids}) == (1, 300, 2)


def test_positions_are_read_again_when_written_to_and_when_others_come():
    grid, ids = PositionGrid("img_ids"), positions(3, (0, 4, 6))
    assert grid({"img_ids": ids}) == (1, 4, 6)
    ids.copy_(positions(3, (0, 6, 4)))
    assert grid({"img_ids": ids}) == (1, 6, 4)
    assert grid({"img_ids": positions(3, (0, 2, 5))}) == (1, 2, 5)


def test_positions_that_tell_no_picture_give_no_grid():
    grid = PositionGrid("img_ids")
    assert grid({}) is None
    assert grid({"img_ids": positions(3, (0, 4, 6))[:23]}) is None
    assert grid({"img_ids": torch.zeros(0, 3)}) is None


def test_references_before_the_picture_are_passed_over_where_flux2_keeps_their_keys():
    grid = flux_anatomy.recognise(build_flux2()).grid
    ids = positions(4, (10, 3, 2), (20, 5, 1), (0, 4, 6))[None]
    assert grid({"img_ids": ids}) == (1, 3, 2)
    assert grid({"img_ids": ids, "num_ref_tokens": 11, "kv_cache_mode": "extract"}) == (1, 4, 6)
    assert grid({"img_ids": ids[:, 11:], "kv_cache_mode": "cached"}) == (1, 4, 6)


@pytest.mark.parametrize(
    ("shapes", "layered", "expected"),
    [
        (qwen(0)["img_shapes"], False, (1, 4, 6)),
        ([[(1, 4, 6), (1, 4, 6)]] * 2, False, (1, 4, 6)),  # a reference of the picture's own size
        ([(1, 4, 6)] * 2, False, (1, 4, 6)),  # as the ControlNet pipelines give it
        ([[(1, 4, 6)] * 3 + [(1, 2, 2)]], True, (3, 4, 6)),
        ([[(1, 4, 6), (1, 2, 6), (1, 2, 2)]], True, None),
        ([[(1, 4, 6)], [(1, 6, 4)]], False, None),
        (None, False, None),
    ],
)
def test_qwen_image_shapes(shapes, layered, expected):
    assert _shapes_grid(layered)({"img_shapes": shapes}) == expected


def test_a_latent_picture_is_cut_in_patches():
    assert picture_grid("hidden_states", (1, 2, 2))(sd3(0)) == (1, 4, 6)
    assert picture_grid("hidden_states", (1, 2, 2))({"hidden_states": torch.zeros(1, 24, 8)}) is None


def test_z_image_latents_of_one_size_have_a_grid_and_nested_lists_none():
    grid = z_image_anatomy.recognise(build_z_image()).grid
    (first, second) = z_image(0)["x"]
    assert grid({"x": [first, second]}) == (1, 4, 6)
    assert grid({"x": [first], "patch_size": 4}) == (1, 2, 3)
    assert grid({"x": [first, second[..., :4]]}) is None
    assert grid({"x": [[first, second]]}) is None


@pytest.mark.parametrize("recognise", [sd3_anatomy.recognise, z_image_anatomy.recognise])
def test_other_models_are_not_recognised(recognise):
    assert recognise(torch.nn.Linear(2, 2)) is None


def test_skip_layer_guidance_is_a_branch_with_values_of_its_own():
    """A third call of each step, for the conditional sample alone, leaves block 1 out altogether."""
    model, both, alone = build_sd3(), {}, sd3(0)
    for name, value in alone.items():
        both[name] = value.repeat(2, *[1] * (value.ndim - 1)) if isinstance(value, torch.Tensor) else value
    with torch.no_grad(), synccache.cached(model, Method(Listed(frozenset({0})), Segments(), Reuse())) as handle:
        outs = []
        for timestep in (1e-9, 9e-10):
            time = torch.tensor([timestep])
            guided = model(timestep=time.repeat(2), **both)[0]
            outs.append((guided, model(timestep=time, skip_layers=[1], **alone)[0]))
        done = [(record.run, record.branch, record.decision) for record in handle.trace.records]
        assert done == [(0, 0, "computed"), (0, 1, "computed"), (0, 0, "skipped"), (0, 1, "skipped")]
    for computed, skipped in zip(*outs, strict=True):
        assert distance(skipped, computed) < 1e-5
    assert distance(outs[0][1], outs[0][0][:1]) > 1e-3
