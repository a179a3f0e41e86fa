"""What is special about the two official audio-driven classes, on doubles with their structure."""

import sys
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from models import Noise
from models.official import Ulysses, s2v, s2v_inputs
from models.official_avatar import HYVideoDiffusionTransformer, avatar, avatar_inputs

import synccache
from synccache import Method
from synccache.anatomies import hunyuan_avatar, wan_s2v
from synccache.forecasters import Reuse
from synccache.gates import Interval, Never
from synccache.scopes import Segments
from synccache.testing import Look, Watching, distance

FIRST = Method(Watching(frozenset({0})), Segments(), Reuse())
EVERY_3 = Method(Interval(3), Segments(), Reuse())


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def attached(model, method, **settings):
    family = hunyuan_avatar if isinstance(model, HYVideoDiffusionTransformer) else wan_s2v
    return synccache.cached(model, method, anatomy=family.recognise(model), **settings)


def call(model, timestep, inputs, **changes):
    out = model(t=torch.full((len(inputs["x"]),), float(timestep)), **{**inputs, **changes})
    return out["x"] if isinstance(out, dict) else torch.stack(out)


def denoise(model, seed=0, steps=14, frames=3, move=0, split=False):
    """The release's loop, with windows of 3 latent frames where it has 33: until the eleventh step the unconditional
    branch has its own text and the mask counts 0.6; windows move by ``move`` from step to step and overlap."""
    inputs, latents, speech = (
        avatar_inputs(seed),
        Noise(seed)(1, 4, frames, 8, 8),
        Noise(50)(1, 4 * frames + 4, 2, 3, 4),
    )
    sigmas, shift = torch.linspace(1, 0, steps + 1), 0
    for i in range(steps):
        total, count = torch.zeros_like(latents), torch.zeros(frames, 1, 1)
        for start in range(-shift, frames - shift, 3):
            where = [k % frames for k in range(start, start + 3)]
            heard = speech[:, [k % speech.shape[1] for k in range(4 * start, 4 * start + 9)]]
            given = {
                **inputs, "x": torch.cat([latents[:, :, where]] * 2),
                "audio_prompts": torch.cat([torch.zeros_like(heard), heard]),
                "face_mask": inputs["face_mask"] / 0.6 * (0.6 if i < 10 else 1),
            }  # fmt: skip
            if i >= 10:
                given |= {n: torch.cat([given[n][1:]] * 2) for n in ("text_states", "text_mask", "text_states_2")}
            both = []
            for part in (slice(0, 1), slice(1, 2)) if split else (slice(0, 2),):
                own = {n: v if n.startswith("freqs") else v[part] for n, v in given.items()}
                both.append(call(model, 1000 * sigmas[i], own))
            nothing, spoken = torch.cat(both).chunk(2)
            total[:, :, where] += latents[:, :, where] + (sigmas[i + 1] - sigmas[i]) * (2 * spoken - nothing)
            count[where] += 1
        latents, shift = total / count, (shift + move) % 3
    return latents


@pytest.mark.parametrize("ranks", [None, 1])
@pytest.mark.parametrize("name", ["s2v", "avatar"])
def test_every_injection_is_made_once_a_call_in_its_place(name, ranks):
    model, inputs = (s2v(ranks and Ulysses(1)), s2v_inputs()) if name == "s2v" else (avatar(), avatar_inputs())
    blocks = model.blocks if name == "s2v" else [*model.double_blocks, *model.single_blocks]
    adapters = model.audio_injector.injector if name == "s2v" else model.audio_adapter_blocks
    events = []
    for kind, modules in (("block", blocks), ("audio", adapters)):
        for i, module in enumerate(modules):
            module.register_forward_pre_hook(lambda *_, event=(kind, i): events.append(event))
    with attached(model, FIRST) as handle:
        call(model, 900, inputs)
        computed = events.copy()
        events.clear()
        call(model, 800, inputs)
        assert handle.trace.decisions() == ["computed", "skipped"]
    order = [1, 3] if name == "avatar" else [0, 2, 4, 6]
    assert [computed[computed.index(("audio", i)) - 1] for i in range(len(adapters))] == [("block", i) for i in order]
    assert len(computed) == len(blocks) + len(adapters)
    assert events == [("block", 0), *(("audio", i) for i in range(len(adapters)))]


@pytest.mark.parametrize(
    ("build", "given", "audio"),
    [(s2v, s2v_inputs, "audio_input"), (avatar, avatar_inputs, "audio_prompts")],
    ids=["s2v", "avatar"],
)
def test_other_audio_on_a_skipped_step_is_heard(build, given, audio):
    model, inputs, other = build(), given(0), given(1)[audio]
    with attached(model, FIRST) as handle:
        stale = call(model, 500, inputs)
        followed = call(model, 499.999, inputs, **{audio: other})
        assert handle.trace.decisions() == ["computed", "skipped"]
    true = call(model, 500, inputs, **{audio: other})
    assert distance(followed, true) < 0.3 * distance(stale, true)


# -- HunyuanVideo-Avatar -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 12])
def test_the_probe_sees_the_video_tokens_behind_the_reference(size):
    model, inputs, given, shown = avatar(), avatar_inputs(size=size), [], []
    tokens = (size // 2) ** 2
    model.double_blocks[0].register_forward_hook(lambda _, __, out: given.append(out[0]))
    gate = Watching(frozenset({0}), Look(lambda seen: shown.append(seen.tap("probe").now)))
    with attached(model, Method(gate, Segments(), Reuse())):
        call(model, 900, inputs)
    assert torch.equal(shown[0], given[0][:, tokens:]) and shown[0].shape == (2, 3 * tokens, 16)


def test_the_face_mask_of_the_call_is_used_where_the_user_gives_none():
    """The left half of the picture changes, so the error is larger if the face is there; the 0.6 is no weight."""
    model, inputs, errors = avatar(), avatar_inputs(), {}
    left = torch.zeros(2, 1, 1, 8, 8)
    left[..., :4] = 1
    moved = inputs["x"].clone()
    moved[..., :4] += 0.5
    cases = {
        "left": (left, None), "weaker": (0.6 * left, None), "right": (1 - left, None), "all": (left * 0 + 1, None),
        "user": (1 - left, left[0, 0, 0]), "user again": (left, left[0, 0, 0]),
    }  # fmt: skip
    for name, (face, mask) in cases.items():
        with attached(model, "synccache", mask=mask, mask_weight=3.0, steps=40) as handle:
            call(model, 500, inputs, face_mask=face)
            call(model, 499.999, inputs, face_mask=face, x=moved)
            errors[name] = handle.trace.errors()[-1]
    assert errors["left"] > 1.2 * errors["all"] > 1.2 * errors["right"]
    assert errors["left"] == pytest.approx(errors["user again"]) == pytest.approx(errors["weaker"])
    assert errors["user"] == pytest.approx(errors["left"])


@pytest.mark.parametrize("split", [False, True], ids=["batched", "one branch after the other"])
def test_the_step_at_which_the_conditioning_changes_is_computed(split):
    model = avatar()
    with attached(model, FIRST) as handle:
        denoise(model, split=split)
        assert [i for i, d in enumerate(handle.trace.decisions()) if d == "computed"] == [0, 10]
        assert {r.decision for r in handle.trace if r.step == 10} == {"computed"}
        assert handle.trace.steps()[10].reason == "new conditioning"
        assert len(handle.trace) == (28 if split else 14) and len(handle.trace.runs) == 1


@pytest.mark.parametrize("name", ["motion_exp", "motion_pose", "fps", "face_mask", "ref_latents"])
def test_what_does_not_enter_between_the_blocks_has_its_step_computed_when_it_changes(name):
    """Audio alone does: others are in the time embedding or among the tokens, where no block shows them."""
    model, inputs = avatar(), avatar_inputs()
    changed = {name: inputs[name] + 1}
    plain = call(model, 499.999, inputs, **changed)
    assert distance(call(model, 499.999, inputs), plain) > 0.01
    with attached(model, FIRST) as handle:
        call(model, 500, inputs)
        assert torch.equal(call(model, 499.999, inputs, **changed), plain)
        assert handle.trace.decisions() == ["computed", "computed"]


def test_its_own_cache_is_off_while_ours_is_attached_and_back_afterwards():
    model, inputs, ran = avatar(), avatar_inputs(), []
    for block in [*model.double_blocks, *model.single_blocks]:
        block.register_forward_hook(lambda *_: ran.append(1))

    def count(timestep):
        ran.clear()
        call(model, timestep, avatar_inputs(1), is_cache=True)
        return len(ran)

    call(model, 900, inputs)
    assert count(800) == 1
    plain = call(model, 800, inputs)
    with attached(model, Method(Never(), Segments(), Reuse())):
        with pytest.warns(synccache.Notice, match="is_cache=True") as notices:
            assert count(900) == 7
            assert torch.equal(call(model, 800, inputs, is_cache=True), plain)
        assert len(notices) == 1
        with pytest.raises(synccache.Conflict, match="is_cache=True by position"):
            model(inputs["x"], torch.tensor([700.0, 700.0]), *[None] * 7, True, True)
    assert count(700) == 1


@pytest.mark.parametrize("method", [FIRST, Method(Interval(2), Segments(), Reuse())], ids=["probing", "blind"])
@pytest.mark.parametrize("split", [False, True], ids=["batched", "one branch after the other"])
def test_windows_never_get_another_windows_anchors(method, split):
    """Two windows of 3 frames in a video of 5, moving by one frame a step: computed, and as without a cache."""
    model = avatar()
    short, long = denoise(model, split=split), denoise(model, frames=5, move=1, split=split)
    with attached(model, method) as handle:
        with pytest.warns(synccache.Notice, match="windows of a longer video") as notices:
            assert torch.equal(denoise(model, frames=5, move=1, split=split), long)
        assert len(notices) == 1
        assert {r.decision for r in handle.trace} == {"computed"} and len(handle.trace.runs) == 1
        assert [r.reason for r in handle.trace][2 if split else 1 :] == ["window"] * (54 if split else 27)
        assert {r.bytes + r.probe_bytes for r in handle.trace if r.reason == "window"} == {0}
        one = denoise(model, split=split)  # a video of one window, right after, is cached
        assert handle.trace.skipped() > 0 and not torch.equal(one, short)


def test_ranks_agree_over_the_group_that_the_release_keeps_beside_the_class(monkeypatch, tmp_path):
    released, asked, share = sys.modules[HYVideoDiffusionTransformer.__module__], [], [False]
    reduce = torch.distributed.all_reduce
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda x, group: (asked.append(group), reduce(x, group=group)))
    monkeypatch.setattr(released, "get_sequence_parallel_state", lambda: share[0], raising=False)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        group = torch.distributed.new_group([0])
        monkeypatch.setattr(released, "nccl_info", SimpleNamespace(group=group), raising=False)
        for share[0], expected in ((False, []), (True, [group])):
            asked.clear()
            model = avatar()
            with attached(model, "synccache", steps=12):
                [call(model, t, avatar_inputs()) for t in (900, 800)]
            assert asked == expected
    finally:
        torch.distributed.destroy_process_group()


def test_a_class_of_the_same_name_without_audio_is_another_model():
    model = avatar()
    assert hunyuan_avatar.recognise(model).sites == (1, 3)
    del model.audio_adapter_blocks
    assert hunyuan_avatar.recognise(model) is None


# -- Wan2.2-S2V --------------------------------------------------------------------------------------------------------


def clip(model, number, frames):
    """One clip, as the release calls it: the first one without motion tokens, with and without audio in turn."""
    inputs, outs = s2v_inputs(number, frames), []
    for t in torch.linspace(1000, 100, 6).tolist():
        for audio in (inputs["audio_input"], 0 * inputs["audio_input"]):
            outs.append(call(model, t, inputs, audio_input=audio, drop_motion_frames=number == 0))
    return outs


def test_clips_of_changing_length_start_anew():
    model, clips = s2v(), [(0, 3), (1, 3), (2, 2), (3, 4)]
    alone = []
    for number, frames in clips:
        with attached(model, EVERY_3):
            alone.append(clip(model, number, frames))
    with attached(model, EVERY_3) as handle:
        for (number, frames), expected in zip(clips, alone, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(clip(model, number, frames), expected, strict=True))
            assert handle.trace.decisions() == ["computed", "skipped", "skipped"] * 2
            assert [r.branch for r in handle.trace.of_run()] == [0, 1] * 6
        assert len(handle.trace.runs) == 4


def test_motion_tokens_that_come_in_the_midst_of_a_run_are_computed():
    model, inputs = s2v(), s2v_inputs()
    plain = call(model, 800, inputs)
    with attached(model, FIRST) as handle:
        call(model, 900, inputs, drop_motion_frames=True)
        assert torch.equal(call(model, 800, inputs), plain)
        assert handle.trace.decisions() == ["computed", "computed"]


@pytest.mark.parametrize("mask", [None, torch.eye(8)], ids=["no mask", "a mask"])
def test_two_ranks_that_share_the_tokens(mask):
    """Each rank keeps the residuals of its own tokens; audio is injected into those of all, gathered. A mask has no
    place there yet, and says so."""
    whole, ranks, inputs, outs = s2v(), Ulysses(2), s2v_inputs(), {}
    expected = [call(whole, t, inputs) for t in (900, 899.999)]
    models = [s2v(ranks) for _ in range(2)]

    def work(rank):
        ranks.of_thread.rank = rank
        with torch.no_grad(), attached(models[rank], FIRST, mask=mask) as handle:
            shapes = set()
            handle.on_store = lambda stored: shapes.add(tuple(stored.value.shape)) or True
            outs[rank] = [call(models[rank], t, inputs) for t in (900, 899.999)]
            outs[rank] += [handle.trace.decisions(), shapes]

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    with nullcontext() if mask is None else pytest.warns(synccache.Notice, match="48 tokens, and 44 video tokens are"):
        [t.start() for t in threads]
        [t.join() for t in threads]
    for computed, skipped, decisions, shapes in outs.values():
        assert decisions == ["computed", "skipped"] and shapes == {(1, 44, 16)}
        assert distance(computed, expected[0]) < 1e-5 and distance(skipped, expected[1]) < 1e-4
    assert len(outs) == 2
