"""Prompt editing: what the blocks themselves are told changes in the middle of a run, on every model, in every scope.

What enters between the blocks (audio, hints, ControlNets' residuals) is live anyway, and no reason to compute.
"""

import pytest
import torch
from diffusers import Lumina2Transformer2DModel, PixArtTransformer2DModel
from loops import LATENT, bar, call, noise, pipeline, prompt, sample, small
from models import hunyuan, image, ltx, official, official_avatar, others, seeded, wan

import synccache
from synccache import Method, Notice
from synccache.forecasters import Reuse
from synccache.gates import Listed
from synccache.scopes import Modules, Segments, WholeModel, WholeStack
from synccache.testing import distance

SCOPES = {"segments": Segments(), "stack": WholeStack(absorb=True), "model": WholeModel(residual=False)}
FIRST = Listed(frozenset({0, 1}))
falling = lambda step: torch.tensor([900.0 - 0.01 * step])  # noqa: E731
of_1000 = lambda step: falling(step) / 1000  # noqa: E731
LUMINA = {
    "sample_size": 8, "patch_size": 2, "in_channels": 4, "hidden_size": 24, "num_layers": 4, "num_refiner_layers": 1,
    "num_attention_heads": 3, "num_kv_heads": 1, "multiple_of": 4, "axes_dim_rope": (4, 2, 2),
    "axes_lens": (64, 16, 16), "cap_feat_dim": 8,
}  # fmt: skip
PIXART = {
    "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "num_layers": 4,
    "cross_attention_dim": 24, "caption_channels": 8, "sample_size": 8, "patch_size": 2,
}  # fmt: skip


def lumina(seed):
    known = {"hidden_states": noise(seed, 1, 4, 8, 8), "encoder_hidden_states": noise(seed + 50, 1, 6, 8)}
    return {**known, "encoder_attention_mask": torch.ones(1, 6).long(), "return_dict": False}


def pixart(seed):
    known = {"hidden_states": noise(seed, 1, 4, 8, 8), "encoder_hidden_states": noise(seed + 50, 1, 6, 8)}
    return {**known, "added_cond_kwargs": {"resolution": None, "aspect_ratio": None}, "return_dict": False}


def text(*shape):
    return 3 * noise(77, *shape)


# (model, its inputs by seed, what is changed, timestep of a step, names of latent and timestep)
EDITS = {
    "wan": (small, wan.text, {"encoder_hidden_states": text(1, 5, 16)}, falling),
    "wan, longer": (small, wan.text, {"encoder_hidden_states": text(1, 9, 16)}, falling),
    "vace": (wan.build_vace, wan.vace, {"encoder_hidden_states": text(1, 5, 16)}, falling),
    "flux": (image.build_flux, image.flux, {"encoder_hidden_states": text(1, 5, 12)}, of_1000),
    "flux, pooled": (image.build_flux, image.flux, {"pooled_projections": text(1, 8)}, of_1000),
    "flux, positions": (image.build_flux, image.flux, {"img_ids": 5 * torch.rand(24, 3)}, of_1000),
    "flux.2": (image.build_flux2, image.flux2, {"encoder_hidden_states": text(1, 5, 12)}, of_1000),
    "sd3": (image.build_sd3, image.sd3, {"pooled_projections": text(1, 8)}, falling),
    "hunyuan": (hunyuan.build, hunyuan.inputs, {"encoder_hidden_states": text(1, 6, 12)}, falling),
    "hunyuan, guidance": (hunyuan.build, hunyuan.inputs, {"guidance": torch.tensor([1000.0])}, falling),
    "cogvideox": (others.build_cogvideox, lambda s: others.cogvideox(s, 4),
                  {"encoder_hidden_states": text(1, 5, 12)}, falling),
    "qwen": (image.build_qwen, image.qwen, {"encoder_hidden_states": text(1, 5, 12)}, of_1000),
    "qwen, padding": (image.build_qwen, image.qwen, {"encoder_hidden_states_mask": torch.tensor([[1, 1, 0, 0, 0]])},
                      of_1000),
    "ltx-2": (ltx.build_2, ltx.inputs_2, {"audio_encoder_hidden_states": text(1, 5, 12)}, falling),
    "z-image": (image.build_z_image, image.z_image, {"cap_feats": [text(5, 12), text(7, 12)]},
                lambda step: of_1000(step).repeat(2), "x", "t"),
    "s2v": (official.s2v, official.s2v_inputs, {"context": [text(5, 12)]}, falling, "x", "t"),
    "avatar": (official_avatar.avatar, official_avatar.avatar_inputs, {"text_states": text(2, 5, 12)},
               lambda step: falling(step).repeat(2), "x", "t"),
    "avatar, pooled": (official_avatar.avatar, official_avatar.avatar_inputs, {"text_states_2": text(2, 6)},
                       lambda step: falling(step).repeat(2), "x", "t"),
    "lumina, by structure": (lambda: seeded(lambda: Lumina2Transformer2DModel(**LUMINA)), lumina,
                             {"encoder_hidden_states": text(1, 6, 8)}, of_1000),
    "pixart, by structure": (lambda: seeded(lambda: PixArtTransformer2DModel(**PIXART)), pixart,
                             {"encoder_hidden_states": text(1, 6, 8)}, falling),
}  # fmt: skip


def copied(value):
    if isinstance(value, list):
        return [copied(v) for v in value]
    return value.clone() if isinstance(value, torch.Tensor) else value


def followed(case, scope, fresh=False, before=4):
    """(numbers, truths, stale one) of ``before`` calls, of one with the change, and of one more like that."""
    build, inputs, changed, time, *names = case
    latent, timestep = names or ("hidden_states", "timestep")
    model, given = build(), inputs(1)
    x = given.pop(latent)

    def at(step, arguments):
        arguments = {name: copied(value) for name, value in arguments.items()} if fresh else arguments
        return call(model, x, time(step), arguments, latent, timestep)

    calls = [given] * before + [{**given, **changed}] * 2
    with torch.no_grad():
        truths, stale = [at(step, arguments) for step, arguments in enumerate(calls)], at(before, given)
        with synccache.cached(model, Method(FIRST, SCOPES.get(scope, scope), Reuse())) as handle:
            found = [at(step, arguments) for step, arguments in enumerate(calls)]
    return found, truths, stale, handle


@pytest.mark.filterwarnings("ignore:Some repeated blocks")
@pytest.mark.parametrize(("scope", "fresh"), [*((scope, False) for scope in SCOPES), ("segments", True)])
@pytest.mark.parametrize("name", EDITS)
def test_another_prompt_from_the_middle_of_a_run_on(name, scope, fresh):
    """``fresh``: every call gets tensors of its own, as where a pipeline casts or repeats its prompt in the loop."""
    found, truths, stale, handle = followed(EDITS[name], scope, fresh)
    assert distance(stale, truths[4]) > 3e-3
    assert [r.decision for r in handle.trace][-4:] == ["skipped", "skipped", "computed", "skipped"]
    assert torch.equal(found[4], truths[4]) and handle.trace.records[-2].reason == "new conditioning"
    assert distance(found[5], truths[5]) < 0.2 * distance(stale, truths[5])
    assert {(r.run, r.branch) for r in handle.trace} == {(0, 0)}


def test_outputs_of_modules_are_computed_anew_too():
    found, truths, _, handle = followed(EDITS["wan"], Modules())
    assert torch.equal(found[4], truths[4]) and bar(handle) == "##..#."


LIVE = {
    "vace, control": (wan.build_vace, wan.vace, {"control_hidden_states": noise(7, 1, 6, 3, 4, 6)}, falling),
    "animate, face": (wan.build_animate, wan.animate, {"face_pixel_values": noise(7, 1, 3, 5, 16, 16).clamp(-1, 1)},
                      falling),
    "s2v, audio": (official.s2v, official.s2v_inputs, {"audio_input": 1 + noise(7, 1, 3, 6, 12)}, falling, "x", "t"),
    "avatar, audio": (official_avatar.avatar, official_avatar.avatar_inputs,
                      {"audio_prompts": 1 + noise(7, 2, 9, 2, 3, 4)}, lambda step: falling(step).repeat(2), "x", "t"),
    "flux, controlnet": (image.build_flux, lambda s: {**image.flux(s), **image.flux_control(s)}, image.flux_control(7),
                         of_1000),
    "sd3, controlnet": (image.build_sd3, lambda s: {**image.sd3(s), **image.sd3_control(s)}, image.sd3_control(7),
                        falling),
}  # fmt: skip


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("name", LIVE)
def test_what_enters_between_the_blocks_is_followed_on_a_skipped_step(name, fresh):
    found, truths, stale, handle = followed(LIVE[name], "segments", fresh)
    assert bar(handle) == "##...." and handle.trace.records[-2].reason == "listed"
    assert distance(found[4], truths[4]) < 0.5 * distance(stale, truths[4])
    for scope in ("stack", "model"):  # nothing is live where the whole stack, or the model, is left out
        found, truths, _, handle = followed(LIVE[name], scope, fresh)
        assert torch.equal(found[4], truths[4]) and bar(handle) == "##..#."


@pytest.mark.parametrize(
    ("build", "inputs", "control", "scale"),
    [
        (image.build_flux, image.flux, image.flux_control, 1000), (image.build_sd3, image.sd3, image.sd3_control, 1),
        (image.build_qwen, image.qwen, image.qwen_control, 1000),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["synccache", "taylorseer", "easycache"])
def test_residuals_that_a_controlnet_makes_anew_at_each_step_are_no_new_conditioning(
    build, inputs, control, scale, method
):
    model, given = build(), inputs(1)
    settings = {"synccache": {"threshold": 0.5}, "easycache": {"threshold": 2.0}}.get(method, {})
    with synccache.cached(model, method, steps=20, **settings) as handle:
        passes = lambda step: [{**given, **control(step)}]  # noqa: E731
        sample(model, passes, given["hidden_states"], time=lambda t: t[None] / scale)
        assert handle.trace.skipped() > 8
        assert [r.reason for r in handle.trace].count("new conditioning") <= 1  # the second set may be anything


def test_a_prompt_that_moves_on_at_every_step_is_followed_and_said():
    """Prompt travel: no step may be filled in from another prompt's."""
    model, ends = small(), [prompt(n)["encoder_hidden_states"] for n in (1, 2)]
    passes = lambda step: [{"encoder_hidden_states": torch.lerp(*ends, step / 19)}]  # noqa: E731
    plain = sample(model, passes, noise(1, *LATENT))
    with synccache.cached(model, "interval", steps=20) as handle:
        with pytest.warns(Notice, match="left out nothing.*new conditioning.*was another at each step"):
            assert torch.equal(sample(model, passes, noise(1, *LATENT)), plain)
        assert "reasons" in handle.trace.summary() and "new conditioning" in handle.trace.summary()


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("edited", [0, 1])
@pytest.mark.parametrize("method", ["fora", "synccache-cfg", "uncond-reuse", "easycache"])
def test_the_deciding_pass_takes_the_others_with_it_and_another_goes_alone(method, edited, fresh):
    """Where the others are told from the deciding one, by how much they differ, its old prompt is in that too."""
    model, texts, new = small(), [prompt(1), prompt(2)], prompt(3, scale=3.0)
    settings = {"easycache": {"threshold": 9.0, "warmup": 2}, "uncond-reuse": {"warmup": 2}, "fora": {}}
    settings = settings.get(method, {"threshold": 9.0})

    def passes(step):
        chosen = [new if step >= 10 and number == edited else text for number, text in enumerate(texts)]
        return [{k: v.clone() if fresh else v for k, v in given.items()} for given in chosen]

    with synccache.cached(model, method, steps=20, **settings) as handle:
        sample(model, passes, noise(1, *LATENT), stop=11)
        before, now = ([(r.decision, r.reason) for r in handle.trace if r.step == s] for s in (8, 10))
    assert [decision for decision, _ in before] == ["skipped", "skipped"]
    assert now[edited] == ("computed", "new conditioning")
    assert now[1 - edited][0] == ("skipped" if edited else "computed")


def test_a_profile_that_forecasts_the_whole_output():
    """L2P replaces the model: a prompt that changes is computed, whatever its list of steps says."""
    pipe, old, new = pipeline(small()), prompt(1), prompt(2, scale=3.0)
    run = lambda passes, **more: sample(pipe.transformer, passes, noise(1, *LATENT), scheduler=pipe.scheduler, **more)  # noqa: E731
    profile = synccache.learn_profile(pipe, "l2p", lambda: run([old]))
    with synccache.cached(pipe, "l2p", profile=profile) as handle:
        run([old])
        left_out = next(i for i, d in enumerate(handle.trace.decisions()) if d == "skipped" and i > 4)
        run(lambda step: [old if step < left_out else new])
        record = handle.trace.steps()[left_out]
        assert (record.decision, record.reason) == ("computed", "new conditioning")
