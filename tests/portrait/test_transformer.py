"""The portrait transformer: its parametrisation, its audio modules, its file format."""

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

from synccache.errors import InputError
from synccache.portrait.drawing import OverlapHead, drawn
from synccache.portrait.muon import orthogonalise
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer

TINY = PortraitConfig(
    image_size=32, patch_size=8, overlap=2, dim=32, ffn_dim=48, heads=2, layers=3, inject_after=(0, 2)
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return PortraitTransformer(TINY).eval()


def inputs(batch=2, frames=3, motion=False):
    generator = torch.Generator().manual_seed(1)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    return {
        "hidden_states": random(batch, 3, frames, 32, 32),
        "timestep": torch.tensor([700.0, 250.0][:batch]),
        "audio": random(batch, frames, 5, 65),
        "reference": random(batch, 3, 32, 32),
        "motion": random(batch, 6, 32, 32) if motion else None,
    }


def test_without_change_the_velocity_points_from_the_reference_to_the_noisy_clip(model):
    torch.nn.init.zeros_(model.change_out.weight)
    given = inputs()
    with torch.no_grad():
        velocity = model(**given)
    sigma = given["timestep"].reshape(-1, 1, 1, 1, 1) / 1000
    expected = (given["hidden_states"] - given["reference"][:, :, None]) / sigma
    assert torch.allclose(velocity, expected, atol=1e-4)


def test_what_moves_is_looked_up_elsewhere_faded_and_drawn_over_and_the_rest_stands_still():
    portrait, change = torch.randn(2, 3, 32, 32), torch.randn(6, 3, 32, 32)
    move = torch.zeros(2, 3, 4, 8, 8)
    move[:, 1:, 0] = 1  # a 32nd of the picture is one pixel here
    move[:, 1, 2] = 0.25
    move[:, :2, 3] = -100
    move[:, 2, 3] = 100
    there, moved, still = drawn(portrait, move, change).unflatten(0, (2, 3)).unbind(1)
    added = change.unflatten(0, (2, 3))
    assert torch.allclose(there, portrait + added[:, 0], atol=1e-4)
    assert torch.allclose(moved[..., :-1], (0.75 * portrait[..., 1:]) + added[:, 1, ..., :-1], atol=1e-4)
    assert torch.equal(still, portrait)


def test_the_overlapping_head_is_a_transposed_convolution():
    head = OverlapHead(16, 3, patch=8, overlap=2, std=1.0)
    tokens = torch.randn(5, 16, 16)
    expected = F.conv_transpose2d(tokens.mT.reshape(5, 16, 4, 4), head.weight, head.bias, stride=8, padding=2)
    assert torch.allclose(head(tokens), expected, atol=1e-4)


@pytest.mark.parametrize("motion", [False, True])
def test_recording_gradients_changes_nothing(model, motion):
    given = inputs(motion=motion)
    with torch.no_grad():
        in_place = model(**given)
    assert torch.equal(model(**given).detach(), in_place)


@pytest.mark.parametrize("name", ["hidden_states", "timestep", "audio", "reference", "motion"])
def test_every_input_matters(model, name):
    given = inputs(motion=True)
    with torch.no_grad():
        before = model(**given)
        given[name] = given[name] * 0.5
        assert (model(**given) - before).abs().max() > 1e-5


def test_a_frame_hears_its_own_audio_only(model):
    module = model.audio_modules["0"]
    tokens, audio = torch.randn(1, 3 * 16, 32), torch.randn(1, 3, 5, 32)
    other = audio.clone()
    other[:, 1] += 1
    difference = (module(tokens, audio) - module(tokens, other)).abs().amax(-1).reshape(3, 16).amax(1)
    assert difference[1] > 1e-4 and difference[0] == 0 and difference[2] == 0


def test_what_was_saved_is_loaded(model, tmp_path):
    path = tmp_path / "model.safetensors"
    model.half().float().save(path)
    loaded = PortraitTransformer.load(path)
    assert loaded.config == TINY and not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(**inputs()), model(**inputs()))


@pytest.mark.parametrize("damage", ["config", "missing", "shape", "nan"])
def test_damaged_weights_are_refused_in_one_sentence(model, tmp_path, damage):
    path = tmp_path / "model.safetensors"
    if damage == "nan":
        model.change_out.bias.data[0] = float("nan")
    model.save(path)
    with safe_open(str(path), "pt") as file:
        header, state = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if damage == "config":
        header["config"] = header["config"].replace('"dim"', '"dimm"')
    elif damage == "missing":
        del state["change_out.bias"]
    elif damage == "shape":
        state["change_out.bias"] = torch.zeros(7)
    save_file(state, path, header)
    with pytest.raises(InputError, match="damaged") as refusal:
        PortraitTransformer.load(path)
    assert "\n" not in str(refusal.value)


def test_unusable_weights_are_refused_with_a_reason(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(InputError, match="No portrait model at"):
        PortraitTransformer.load(tmp_path / "missing.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a model")
    with pytest.raises(InputError, match="not a readable safetensors"):
        PortraitTransformer.load(broken)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(1)}, str(foreign))
    with pytest.raises(InputError, match="no schema"):
        PortraitTransformer.load(foreign)


@pytest.mark.parametrize("shape", [(32, 32), (16, 48), (48, 16)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    matrices = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.3 and values.max() < 1.3
