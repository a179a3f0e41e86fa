"""``synccache inspect``: the known models' published sizes, paths, and what can't be used."""

import json

import pytest
import torch
from models import hunyuan, image, ltx, official, others, wan

from synccache.anatomies import find
from synccache.cli import main
from synccache.errors import InputError
from synccache.inspection import MODELS, find_model, inspect
from synccache.inspection.calls import CALLS, Size
from synccache.inspection.model import Model, misfit
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
    one = 59136 * 5120 * 4
    assert found["dtype"] == "float32" and round(one / 2**30, 2) == 1.13
    assert [s["bytes"] for s in found["segments"]] == 11 * [one] and found["segment_bytes"] == 11 * one
    assert [k["bytes"] for k in found["kept"]] == 4 * [one]
    assert found["probe_bytes"] == 20 * 44 * 64 * 5120 * 4
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
WAN_LIKE = {**HEADS, "text_dim": 8, "ffn_dim": 16, "num_layers": 4}


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
        (
            "LTX2VideoTransformer3DModel",
            {**HEADS, "num_layers": 2, "caption_channels": 8, "cross_attention_dim": 32, "audio_num_attention_heads": 2,
             "audio_attention_head_dim": 8, "audio_cross_attention_dim": 16},
            (64, 32, 9), (2, 1, 2), {"hidden_states": (4, 32), "audio_hidden_states": (9, 16)},
        ),
        (
            "HunyuanVideo15Transformer3DModel",
            {**HEADS, "num_layers": 2, "num_refiner_layers": 1, "text_embed_dim": 8, "rope_axes_dim": (4, 6, 6)},
            (64, 32, 9), (3, 2, 4), {"hidden_states": (24, 32), "encoder_hidden_states": (1000 + 256 + 729, 32)},
        ),
        (
            "CogVideoXTransformer3DModel",
            {**HEADS, "num_layers": 2, "patch_size_t": 2, "text_embed_dim": 8, "patch_bias": False,
             "use_rotary_positional_embeddings": True},
            (64, 32, 9), (2, 2, 4), {"hidden_states": (16, 32), "encoder_hidden_states": (226, 32)},
        ),
        (
            "MochiTransformer3DModel", {**HEADS, "num_layers": 2, "text_embed_dim": 8, "pooled_projection_dim": 16},
            (64, 32, 13), (3, 2, 4), {"hidden_states": (24, 32), "encoder_hidden_states": (256, 16)},
        ),
        (
            "CosmosTransformer3DModel", {**HEADS, "num_layers": 2, "text_embed_dim": 8, "concat_padding_mask": False},
            (64, 32, 9), (2, 2, 4), {"hidden_states": (16, 32)},
        ),
        (
            "Flux2Transformer2DModel",
            {**HEADS, "num_layers": 2, "num_single_layers": 2, "joint_attention_dim": 8,
             "axes_dims_rope": (4, 4, 4, 4)},
            (64, 32, None), (1, 2, 4), {"hidden_states": (8, 32), "encoder_hidden_states": (512, 32)},
        ),
        (
            "SD3Transformer2DModel",
            {**HEADS, "num_layers": 2, "joint_attention_dim": 8, "caption_projection_dim": 32},
            (64, 32, None), (1, 2, 4), {"hidden_states": (8, 32), "encoder_hidden_states": (333, 32)},
        ),
        (
            "ZImageTransformer2DModel",
            {"dim": 32, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 8,
             "axes_dims": (4, 6, 6)},
            (64, 32, None), (1, 2, 4), {"x": (32, 32)},
        ),
        ("SkyReelsV2Transformer3DModel", WAN_LIKE, (64, 32, 9), (3, 2, 4), {"hidden_states": (24, 32)}),
        (
            "WanVACETransformer3DModel", {**WAN_LIKE, "vace_layers": (0, 2)},
            (64, 32, 9), (3, 2, 4), {"hidden_states": (24, 32)},
        ),
        (
            "WanAnimateTransformer3DModel",
            {**WAN_LIKE, "image_dim": 8, "added_kv_proj_dim": 32, "face_encoder_hidden_dim": 16,
             "face_encoder_num_heads": 2, "inject_face_latents_blocks": 2},
            (64, 32, 9), (3, 2, 4), {"hidden_states": (32, 32)},  # and the reference picture's
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
    assert held(branches=1) < held(branches=2) and held() == held(dtype="float32") == 2 * held(dtype="float16")


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
        ('{"_class_name": "HYVideoDiffusionTransformer"}', "isn't known here"),
        ('{"_class_name": "WanModel", "model_type": "t3v"}', "model_type='t3v'"),
        ('{"_class_name": "WanModel", "dim": 5120, "num_heads": 0}', "num_heads=0"),
        ('{"_class_name": ["Wan"]}', "Known are"),
        (json.dumps({**TINY_WAN, "num_layers": 10**9}), "num_layers"),
        (json.dumps({**TINY_WAN, "num_layers": "three"}), "its num_layers is 'three', where 40 is usual"),
        (json.dumps({**TINY_WAN, "num_layerz": 3}), "it has num_layerz, which the class doesn't take"),
        (json.dumps({**TINY_WAN, "attention_head_dim": 7}), "sizes in its config don't fit"),
        (json.dumps({**TINY_WAN, "ffn_dim": -3}), "its ffn_dim is -3"),
    ],
)
def test_configs_that_cannot_be_used_are_said_in_one_sentence(tmp_path, capsys, content, says):
    (tmp_path / "config.json").write_text(content)
    code, said = shown(capsys, str(tmp_path))
    assert code == 2 and said.err.startswith("error: ") and says in said.err
    assert not any(word in said.err for word in ("Traceback", "Error", "torch", "tensor", "einsum"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["wan2.2-s2v-14"], "Did you mean 'wan2.2-s2v-14b'? There are: cogvideox-2b"),
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


def test_every_class_that_an_anatomy_is_tested_on_can_be_looked_at():
    cases = [case for module in (wan, hunyuan, ltx, image, others, official) for case in module.CASES]
    assert {type(case.build()).__name__ for case in cases} <= set(CALLS)
    assert {model.cls for model in MODELS.values()} == set(CALLS)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("Wan-AI/Wan2.2-T2V-A14B-Diffusers", "wan2.2-t2v-a14b"), ("Wan-AI/Wan2.2-S2V-14B", "wan2.2-s2v-14b"),
        ("Wan2.2-TI2V-5B", "wan2.2-ti2v-5b"), ("black-forest-labs/FLUX.2-dev", "flux.2-dev"),
        ("hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v", "hunyuanvideo-1.5"),
        ("Qwen/Qwen-Image-Edit-2509", "qwen-image-edit"), ("Skywork/SkyReels-V2-T2V-14B-540P-Diffusers/",
        "skyreels-v2-t2v-14b-540p"), ("stabilityai/stable-diffusion-3.5-large", "stable-diffusion-3.5-large"),
    ],
)  # fmt: skip
def test_a_model_is_known_by_its_address_on_the_hub(address, name):
    assert find_model(address).name == name


@pytest.mark.parametrize(
    ("name", "billions"),
    [("wan2.2-ti2v-5b", 5.0), ("wan2.1-i2v-14b-720p", 16.4), ("mochi-1-preview", 10.0), ("hunyuanvideo-1.5", 8.3),
     ("flux.2-dev", 32.2), ("z-image-turbo", 6.2), ("stable-diffusion-3.5-large", 8.1), ("ltx-2", 18.9)],
)  # fmt: skip
def test_configs_have_the_published_number_of_parameters(name, billions):
    assert sum(p.numel() for p in MODELS[name].build().parameters()) / 1e9 == pytest.approx(billions, abs=0.06)


def test_configs_are_taken_by_their_classes():
    assert not [model.name for model in MODELS.values() if misfit(model._class(), model.config)]


OFFICIAL = {"dim": 48, "ffn_dim": 64, "num_heads": 4, "num_layers": 3, "_diffusers_version": "0.33.0"}


@pytest.mark.parametrize(
    ("more", "cls", "has"),
    [
        ({"_class_name": "WanModel", "model_type": "t2v", "in_dim": 16, "out_dim": 16, "text_len": 512, "eps": 1e-6},
         "WanTransformer3DModel", {"in_channels": 16, "attention_head_dim": 12}),
        ({"_class_name": "WanModel", "model_type": "i2v", "in_dim": 36, "out_dim": 16}, "WanTransformer3DModel",
         {"in_channels": 36}),
        ({"_class_name": "WanModel", "model_type": "i2v", "in_dim": 36, "_diffusers_version": "0.30.0"},
         "WanTransformer3DModel", {"image_dim": 1280}),
        ({"_class_name": "WanModel", "model_type": "ti2v", "in_dim": 48, "out_dim": 48}, "WanTransformer3DModel",
         {"out_channels": 48}),
        ({"_class_name": "VaceWanModel", "model_type": "vace", "vace_layers": [0, 2], "vace_in_dim": 96},
         "WanVACETransformer3DModel", {"vace_layers": (0, 2)}),
        ({"_class_name": "WanModel_S2V", "model_type": "s2v", "audio_inject_layers": [0, 2], "cond_dim": 16},
         "WanModel_S2V", {"inject_layers": (0, 2)}),
    ],
)  # fmt: skip
def test_the_official_releases_configs_are_read(tmp_path, more, cls, has):
    (tmp_path / "config.json").write_text(json.dumps({**OFFICIAL, **more}))
    model = find_model(str(tmp_path))
    assert model.cls == cls and has.items() <= dict(model.config).items() and model.experts == 1
    found = inspect(model, width=64, height=64)
    assert found.dtype == "float32" and found.blocks[0].streams.popitem()[1][1] == 48
    for name in ("high_noise_model", "low_noise_model"):
        (tmp_path / "pair" / name).mkdir(parents=True)
        (tmp_path / "pair" / name / "config.json").write_text(json.dumps({**OFFICIAL, **more}))
    assert find_model(str(tmp_path / "pair")).experts == 2


def test_a_pipelines_index_leads_to_its_transformer(tmp_path):
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(TINY_WAN))
    (tmp_path / "model_index.json").write_text("{}")
    assert find_model(str(tmp_path / "model_index.json")).config["num_layers"] == 3


def test_the_known_names_are_listed(capsys):
    code, said = shown(capsys)
    assert code == 0 and all(name in said.out for name in MODELS)
