"""Foreground and background blocks from attention: exact on planted attention, stable under sampling."""

import numpy as np
import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor
from PIL import Image
from scipy.stats import spearmanr
from torch import nn

import synccache
from synccache import Anatomy, InputError, UnsupportedModel, anatomies
from synccache.planner import learn_profile
from synccache.planner.attention import watched
from synccache.planner.attention_rows import attention, column_sums, overlap, spread
from synccache.planner.recorder import ModelRecorder
from synccache.portrait.pipeline import PortraitPipeline
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer, rotary_tables


def test_the_attention_is_the_modules_own():
    """Weights times values, projected, is what diffusers' Wan attention returns, rotary embedding included."""
    torch.manual_seed(0)
    module = WanAttention(24, heads=3, dim_head=8, processor=WanAttnProcessor())
    nn.init.normal_(module.norm_q.weight), nn.init.normal_(module.norm_k.weight)
    hidden, rotary = torch.randn(2, 12, 24), rotary_tables(3, False, 2, 8)
    with torch.no_grad():
        expected = module(hidden, None, None, rotary)
        values = module.to_v(hidden).unflatten(-1, (3, -1))
        heads = [a @ values[:, :, h] for h, a in enumerate(attention(module, hidden, torch.arange(12), rotary))]
        torch.testing.assert_close(module.to_out[0](torch.cat(heads, -1)), expected, rtol=1e-4, atol=1e-5)
        some = torch.tensor([7, 2])
        for rows, every in zip(
            attention(module, hidden, some, rotary), attention(module, hidden, torch.arange(12), rotary), strict=True
        ):
            torch.testing.assert_close(rows, every[:, some])
        sums = column_sums(module, hidden, some, rotary)
    assert sums.shape == (2, 12) and sums.sum(-1).tolist() == pytest.approx([1, 1])


def test_the_overlap_by_hand():
    received = torch.tensor([[0.4, 0.1, 0.3, 0.2], [0.1, 0.2, 0.4, 0.3]]).reshape(1, 8)  # two frames of four tokens
    assert overlap(received, torch.tensor([[1.0, 1, 0, 0, 0, 0, 1, 1]]), 2) == 0.75  # half of one, all of the other
    assert overlap(received, torch.tensor([[1.0, 0.4, 0, 0, 0, 0, 0, 0]]), 2) == 1  # a frame without a person is none
    assert overlap(torch.full((1, 8), 0.1), torch.ones(1, 8), 2) == 0


def test_queries_are_others_at_each_turn_and_come_to_all():
    turns = [spread(1000, 50, turn) for turn in range(3)]
    assert [len(set(t.tolist())) for t in turns] == [50] * 3 and len(set(torch.cat(turns).tolist())) == 150
    assert all(t.min() >= 0 and t.max() < 1000 for t in turns)
    assert spread(6, 64).tolist() == list(range(6))


class Pointed(nn.Module):
    """A block whose every query looks at the tokens whose first channel is 1, or at those where it is 0."""

    class Attention(nn.Module):
        heads = 1

        def __init__(self, person: bool) -> None:
            super().__init__()
            self.to_q, self.to_k = nn.Linear(2, 2), nn.Linear(2, 2, bias=False)
            with torch.no_grad():
                self.to_q.weight.zero_()
                self.to_q.bias.copy_(torch.tensor([9.0, 0.0] if person else [0.0, 9.0]))
                self.to_k.weight.copy_(torch.eye(2))

        def forward(self, hidden_states):
            return torch.zeros_like(hidden_states)

    def __init__(self, person: bool) -> None:
        super().__init__()
        self.attn1 = self.Attention(person)

    def forward(self, hidden_states):
        return hidden_states + self.attn1(hidden_states)


class PointedModel(nn.Module):
    """Four video tokens of which the first is the person's, behind one token that is none."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Pointed(person) for person in (True, False, True, False, False))

    def forward(self, hidden_states, timestep):
        for block in self.blocks:
            hidden_states = block(hidden_states)
        return hidden_states

    @property
    def anatomy(self):
        return Anatomy("pointed", tuple(self.blocks), grid=lambda arguments: (1, 2, 2), offset=1)


TOKENS = torch.tensor([[[0.0, 0.0], [1, 0], [0, 1], [0, 1], [0, 1]]])
PERSON = torch.tensor([[1.0, 0.0], [0.0, 0.0]])


def steps_of(model, count=2):
    for timestep in range(count, 0, -1):
        model(TOKENS, torch.tensor([100.0 * timestep]))


def recorder(model, steps=2, mask=PERSON):
    return ModelRecorder(model, lambda: steps_of(model, steps), anatomy=model.anatomy, mask=mask)


def test_planted_background_blocks_are_found():
    model = PointedModel()
    found = recorder(model).background(0.6)
    assert found["scores"].tolist() == [1, 0, 1, 0, 0] and found["scores"].dtype is torch.float32
    assert found["blocks"].tolist() == [1, 3, 4] and found["blocks"].dtype is torch.int64
    assert recorder(model).background(0.4)["blocks"].tolist() == [1, 3]
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_what_cant_be_learnt_from_is_refused():
    model = PointedModel()
    with pytest.raises(InputError, match="Give mask="):
        recorder(model, mask=None).background(0.6)
    for steps in (0, 1):
        with pytest.raises(InputError, match=f"made {steps} steps of the model; at least 2"):
            recorder(model, steps).background(0.6)
    with pytest.raises(InputError, match="no person in it"):
        recorder(model, mask=torch.zeros(2, 2)).background(0.6)
    blind = Anatomy("pointed", tuple(model.blocks))
    with watched(model, blind, PERSON), pytest.raises(UnsupportedModel, match="grid of PointedModel is not known"):
        model(TOKENS, torch.tensor([1000.0]))
    bare = watched(model, Anatomy("bare", (nn.Identity(),)), PERSON)
    with pytest.raises(UnsupportedModel, match="Identity holds no self-attention"):
        bare.__enter__()
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_sampled_queries_rank_the_portrait_models_blocks_as_all_queries_do():
    """A few steps on the packaged portrait; an ellipse stands for the person."""
    pipe = PortraitPipeline.load()
    folder = anatomies.find(pipe.transformer).shipped
    config, anatomy = pipe.transformer.config, anatomies.find(pipe.transformer)
    size = config.image_size
    picture = np.array(Image.open(folder / "astronaut.jpg").convert("RGB").resize((size, size)))
    reference = torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    random = torch.Generator().manual_seed(0)
    audio = torch.randn(1, config.frames, config.audio_tokens, config.audio_dim, generator=random)
    mask = ((y / 0.8) ** 2 + (x / 0.5) ** 2 < 1).float()
    with (
        torch.no_grad(), watched(pipe.transformer, anatomy, mask, None) as every,
        watched(pipe.transformer, anatomy, mask, 64) as some,
    ):  # fmt: skip
        pipe.denoise(reference, audio, steps=3, guidance_scale=1)
    every, some = every.mean(), some.mean()
    assert len(every) == 17 and every.min() > 0 and every.max() < 1
    assert spearmanr(every, some).statistic >= 0.9
    assert (every - some).abs().max() < 0.15


def test_a_profile_makes_the_method():
    torch.manual_seed(0)
    model = PortraitTransformer(PortraitConfig(image_size=32, dim=24, ffn_dim=24, heads=2, layers=5, frames=2))
    pipe = PortraitPipeline(model)
    reference, audio = torch.zeros(1, 3, 32, 32), torch.randn(1, 2, 5, 64)

    def run():
        return pipe.denoise(reference, audio, steps=12, guidance_scale=1)

    profile = learn_profile(pipe, "profilingdit", run, mask=torch.ones(32, 1) * (torch.arange(32) < 16))
    assert profile.steps == 12 and len(profile.tensors["blocks"]) == 3
    plain = run()
    for given in ({"profile": profile}, {"blocks": profile.tensors["blocks"].tolist()}):
        with synccache.cached(pipe, "profilingdit", **given) as handle:
            run()
            assert {i for r in handle.regions for i in r.members} == set(profile.tensors["blocks"].tolist())
            assert handle.trace.skipped() > 0
    assert torch.equal(run(), plain)
