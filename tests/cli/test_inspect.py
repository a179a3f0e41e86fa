"""``synccache inspect``: the known models' published sizes, paths, and what can't be used."""

import json

import pytest
import torch

from synccache.anatomies import find
from synccache.cli import main
from synccache.errors import InputError
from synccache.inspection import MODELS, find_model, inspect
from synccache.inspection.calls import Size
from synccache.inspection.models import Model
from synccache.inspection.watch import watch
from synccache.profiles import Plan, Profile
from synccache.testing import WanModel_S2V as Toy
from synccache.testing import s2v_inputs

TINY_WAN = {
    "_class_name": "WanTransformer3DModel", "_diffusers_version": "0.42.1", "patch_size": [1, 2, 2],
    "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "text_dim": 16,
    "freq_dim": 32, "ffn_dim": 32, "num_layers": 3,
}  # fmt: skip
TINY_S2V = {"dim": 48, "ffn_dim": 64, "num_heads": 4, "num_layers": 6, "inject_layers": (0, 2, 4, 5), "text_dim": 8}


def shown(capsys, *arguments):
    code = main(["inspect", *arguments])
    return code, capsys.readouterr()


def test_wan_s2v_has_its_published_numbers(capsys):
    code, said = shown(capsys, "wan2.2-s2v-14b", "--json")
    assert code == 0
    found = json.loads(said.out)
    assert found["anatomy"] == "wan-s2v" and found["grid"] == [20, 44, 64]
    assert found["sites"] == [0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39]
    assert found["blocks"] == [{"first": 0, "last": 39, "cls": "WanS2VAttentionBlock", "streams": {"x": [59136, 5120]}}]
    one = 59136 * 5120 * 2
    assert round(one / 2**30, 2) == 0.56
    assert [s["bytes"] for s in found["segments"]] == 11 * [one] and found["segment_bytes"] == 11 * one
    assert [k["bytes"] for k in found["kept"]] == 4 * [one]
    assert found["probe_bytes"] == 20 * 44 * 64 * 5120 * 2
    assert found["total_bytes"] == 2 * 4 * one + found["probe_bytes"]


def test_a_later_clip_carries_the_packed_motion_tokens():
    tiny = Model("tiny", "WanModel_S2V", TINY_S2V)
    for size, first, later in (((832, 448), 30576, 32760), ((1024, 704), 59136, 63360)):
        given = dict(zip(("width", "height"), size, strict=True))
        assert inspect(tiny, **given).blocks[0].streams["x"] == (first, 48)
        assert inspect(tiny, **given, motion=True).blocks[0].streams["x"] == (later, 48)


def test_hunyuan_avatar_has_its_published_numbers():
    found = inspect("hunyuanvideo-avatar")
    assert found.anatomy == "hunyuan-avatar" and found.parameters > 12e9 and found.grid == (33, 44, 44)
    assert found.sites == tuple(range(1, 20, 2))
    tokens, text = 34 * 44 * 44, 831
    double, single = found.blocks
    assert (double.first, double.last, double.cls) == (0, 19, "DoubleStreamBlock")
    assert double.streams == {"img": (tokens, 3072), "txt": (text, 3072)}
    assert (single.first, single.last, single.streams) == (20, 59, {"x": (tokens + text, 3072)})
    assert [s.bytes for s in found.segments] == 11 * [(tokens + text) * 3072 * 2]
    assert round(found.segments[0].streams["img"] / 2**30, 2) == 0.38


@pytest.mark.parametrize(
    ("name", "tokens", "channels"),
    [("wan2.1-t2v-1.3b", 32760, 1536), ("wan2.2-t2v-a14b", 75600, 5120)],
)
def test_diffusers_models_are_known_by_name(name, tokens, channels):
    found = inspect(name, cache_ratio=1)
    assert next(iter(found.blocks[0].streams.values())) == (tokens, channels)
    assert found.kept_bytes == tokens * channels * 2 and found.experts == (2 if "a14b" in name else 1)
    assert found.total_bytes == 3 * found.kept_bytes  # two branches and the probe


HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}


@pytest.mark.parametrize(
    ("cls", "config", "size", "grid", "streams"),
    [
        (
            "FluxTransformer2DModel",
            {**HEADS, "num_layers": 2, "num_single_layers": 2, "joint_attention_dim": 8, "axes_dims_rope": (4, 6, 6)},
            (64, 32, None), (1, 2, 4), {"hidden_states": (8, 32), "encoder_hidden_states": (512, 32)},
        ),
        (
            "QwenImageTransformer2DModel",
            {**HEADS, "num_layers": 2, "joint_attention_dim": 8, "axes_dims_rope": (4, 6, 6)},
            (64, 32, None), (1, 2, 4), {"hidden_states": (8, 32), "encoder_hidden_states": (512, 32)},
        ),
        (
            "HunyuanVideoTransformer3DModel",
            {**HEADS, "num_layers": 2, "num_single_layers": 2, "num_refiner_layers": 1, "text_embed_dim": 8,
             "rope_axes_dim": (4, 6, 6)},
            (64, 32, 9), (3, 2, 4), {"hidden_states": (24, 32), "encoder_hidden_states": (256, 32)},
        ),
        (
            "LTXVideoTransformer3DModel",
            {**HEADS, "num_layers": 2, "caption_channels": 8, "cross_attention_dim": 32},
            (64, 32, 9), (2, 1, 2), {"hidden_states": (4, 32)},
        ),
    ],
)  # fmt: skip
def test_every_family_tells_its_streams_and_video_tokens(cls, config, size, grid, streams):
    found = inspect(Model("tiny", cls, config), **dict(zip(("width", "height", "frames"), size, strict=True)))
    assert found.grid == grid and found.blocks[0].streams == streams
    assert found.probe_bytes == torch.Size(grid).numel() * 32 * 2


def test_bytes_grow_with_frames_branches_ratio_and_type():
    tiny = Model("tiny", "WanModel_S2V", {**TINY_S2V, "num_layers": 3, "inject_layers": (0, 1, 2)})

    def held(**given):
        return inspect(tiny, width=64, height=64, **given).total_bytes

    assert held(frames=8) < held(frames=16) and held(cache_ratio=0.4) < held(cache_ratio=1)
    assert held(branches=1) < held(branches=2) and 2 * held() == held(dtype="float32")


def test_the_watched_call_is_the_one_the_engine_would_see():
    """The shapes of a real call on the processor are those of a call without storage."""
    tiny = Model("tiny", "WanModel_S2V", TINY_S2V)
    size = Size(64, 64, 8, motion=True)
    seen = []
    for device in ("meta", "cpu"):
        model = tiny.build(device, torch.float32)
        config = {**tiny.complete(model)}
        arguments = tiny.call.arguments(config, size, lambda *s, d=device: torch.ones(s, device=d))
        structure, shapes = watch(model, find(model), {**arguments, "t": torch.ones(1, device=device)})
        seen.append((structure.anatomy.sites, shapes))
    assert seen[0] == seen[1] and seen[0][1][5] == {"x": (1, 2 * 16 + 16 + 16 + 4 + 4, 48)}


def test_what_is_injected_is_found_where_nothing_is_declared():
    model, given = Toy(), s2v_inputs()
    declared = find(model)
    anatomy = type(declared)("unknown", declared.blocks, timestep="t", latent="x")
    structure, shapes = watch(model, anatomy, {**vars(given), "t": torch.tensor([900.0])})
    assert structure.anatomy.sites == (0, 2, 4) and len(shapes) == 7


def test_folders_and_configs_of_diffusers_are_read(tmp_path, capsys):
    (tmp_path / "pipe" / "transformer").mkdir(parents=True)
    config = tmp_path / "pipe" / "transformer" / "config.json"
    config.write_text(json.dumps(TINY_WAN))
    for path in (tmp_path / "pipe", config.parent, config):
        code, said = shown(capsys, str(path), "--width", "64", "--height", "32", "--frames", "9", "--json")
        found = json.loads(said.out)
        assert code == 0 and found["segment_bytes"] == 3 * 4 * 2 * 24 * 2
    (tmp_path / "pipe" / "transformer_2").mkdir()
    (tmp_path / "pipe" / "transformer_2" / "config.json").write_text(json.dumps(TINY_WAN))
    assert find_model(str(tmp_path / "pipe")).experts == 2
    code, said = shown(capsys, str(config), "--width", "64", "--height", "32", "--frames", "9")
    assert code == 0 and "3 WanTransformerBlock" in said.out and "3 × 2 × 4" in said.out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "no JSON config"),
        ("[]", "not a config"),
        ('{"_class_name": "UNet2DModel"}', "UNet2DModel"),
        ('{"_class_name": "WanModel_S2V"}', "WanModel_S2V"),
        ('{"_class_name": ["Wan"]}', "Known are"),
        (json.dumps({**TINY_WAN, "num_layers": 10**9}), "num_layers"),
        (json.dumps({**TINY_WAN, "num_layers": "three"}), "can't be built"),
    ],
)
def test_configs_that_cannot_be_used_are_said_in_one_sentence(tmp_path, capsys, content, says):
    (tmp_path / "config.json").write_text(content)
    code, said = shown(capsys, str(tmp_path))
    assert code == 2 and said.err.startswith("error: ") and says in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["wan2.2-s2v-14"], "Did you mean 'wan2.2-s2v-14b'? There are: flux.1-dev"),
        (["wan2.2-s2v-14b", "--width", "1000"], "nearest is 992"),
        (["wan2.2-s2v-14b", "--frames", "81"], "nearest is 80"),
        (["wan2.1-t2v-14b", "--frames", "80"], "nearest is 81"),
        (["flux.1-dev", "--frames", "9"], "pictures"),
        (["flux.1-dev", "--motion"], "--motion"),
        (["portrait", "--cache-ratio", "0"], "cache_ratio"),
        (["portrait", "--dtype", "int8"], "floating-point"),
        (["portrait", "--branches", "0"], "branches"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(capsys, arguments, says):
    code, said = shown(capsys, *arguments)
    assert code == 2 and said.err.startswith("error: ") and says in said.err and "Traceback" not in said.err


def test_the_portrait_model_uses_its_shipped_plan():
    found = inspect("portrait")
    shipped = Profile.load(find(MODELS["portrait"].build()).shipped / "profile-synccache.safetensors")
    inner = Plan.of(shipped.tensors).boundaries(len(found.kept))
    assert [k.last for k in found.kept] == [*inner, 16]


def test_every_listed_model_has_a_size_it_can_be_called_at():
    for name, model in MODELS.items():
        model.call.check(name, model.size or model.call.size)
    with pytest.raises(InputError, match="neither config"):
        find_model(".")
