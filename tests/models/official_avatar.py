"""A structural double of HunyuanVideo-Avatar's official class, at width 16: what is called how, in which order, and
what is added where, as in ``hymm_sp/modules/models_audio.py``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import Case, Noise, falling, seeded
from .official import DIM, attend, other_audio, places, turned, turns_of, unpatched, waves


class Embedder(nn.Module):
    """[N] numbers, or [N, C] states, to [N, D]."""

    def __init__(self, given: int | None = None, dim: int = DIM) -> None:
        super().__init__()
        self.given, self.mlp = given, nn.Sequential(nn.Linear(given or DIM, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, value: Tensor) -> Tensor:
        return self.mlp(value if self.given else waves(value, DIM))


class PatchEmbed(nn.Module):
    """[B, 4, T, h, w] to tokens [B, V, D], and the shape of their grid."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv3d(4, DIM, (1, 2, 2), (1, 2, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, torch.Size]:
        x = self.proj(x)
        return x.flatten(2).transpose(1, 2), x.shape


class Half(nn.Module):
    """One stream's weights in a double block."""

    def __init__(self) -> None:
        super().__init__()
        self.mod, self.qkv, self.proj = nn.Linear(DIM, 6 * DIM), nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.mlp = nn.Sequential(nn.Linear(DIM, 2 * DIM), nn.GELU(), nn.Linear(2 * DIM, DIM))

    def before(self, x: Tensor, vec: Tensor) -> list[Tensor]:
        shift, scale = self.mod(vec)[:, None, : 2 * DIM].chunk(2, dim=-1)
        return list(self.qkv(F.layer_norm(x, (DIM,)) * (1 + scale) + shift).chunk(3, dim=-1))

    def after(self, x: Tensor, mixed: Tensor, vec: Tensor) -> Tensor:
        gate, shift, scale, gate_2 = self.mod(vec)[:, None, 2 * DIM :].chunk(4, dim=-1)
        x = x + gate * self.proj(mixed)
        return x + gate_2 * self.mlp(F.layer_norm(x, (DIM,)) * (1 + scale) + shift)


def neighbours(lengths: Tensor, batch: int, longest: int) -> Tensor:
    """[B, S, S]: who attends to whom where ``lengths`` cuts the samples, one after the other, into sequences."""
    assert lengths.shape == (2 * batch + 1,) and int(lengths[-1]) == batch * longest
    part = torch.searchsorted(lengths, torch.arange(batch * longest), right=True).reshape(batch, longest)
    return part[:, :, None] == part[:, None, :]


class DoubleStreamBlock(nn.Module):
    """Called by position; gives (img, txt). Padding attends to padding only."""

    def __init__(self) -> None:
        super().__init__()
        self.img, self.txt = Half(), Half()

    def forward(
        self, img, txt, vec, cu_seqlens_q=None, cu_seqlens_kv=None, max_seqlen_q=None, max_seqlen_kv=None,
        freqs_cis=None,
    ):  # fmt: skip
        assert max_seqlen_q == max_seqlen_kv == img.shape[1] + txt.shape[1]
        image, text, (cos, sin) = self.img.before(img, vec), self.txt.before(txt, vec), freqs_cis
        image[:2] = [turned(x, torch.complex(cos, sin).expand(len(x), -1, -1)) for x in image[:2]]
        both = [torch.cat(pair, dim=1) for pair in zip(image, text, strict=True)]
        mixed = attend(*both, neighbours(cu_seqlens_q, len(img), max_seqlen_q))
        return self.img.after(img, mixed[:, : img.shape[1]], vec), self.txt.after(txt, mixed[:, img.shape[1] :], vec)


class SingleStreamBlock(nn.Module):
    """Called by position with image and text tokens in one; gives them back."""

    def __init__(self) -> None:
        super().__init__()
        self.modulation = nn.Linear(DIM, 3 * DIM)
        self.linear1, self.linear2 = nn.Linear(DIM, 5 * DIM), nn.Linear(3 * DIM, DIM)

    def forward(
        self, x, vec, txt_len, cu_seqlens_q=None, cu_seqlens_kv=None, max_seqlen_q=None, max_seqlen_kv=None,
        freqs_cis=None,
    ):  # fmt: skip
        shift, scale, gate = self.modulation(vec)[:, None].chunk(3, dim=-1)
        *qkv, mlp = self.linear1(F.layer_norm(x, (DIM,)) * (1 + scale) + shift).split([DIM, DIM, DIM, 2 * DIM], dim=-1)
        turns = torch.complex(*freqs_cis).expand(len(x), -1, -1)
        qkv[:2] = [torch.cat([turned(v[:, :-txt_len], turns), v[:, -txt_len:]], dim=1) for v in qkv[:2]]
        mixed = attend(*qkv, neighbours(cu_seqlens_q, len(x), max_seqlen_q))
        return x + gate * self.linear2(torch.cat([mixed, F.gelu(mlp)], dim=-1))


class PerceiverAttentionCA(nn.Module):
    """Each latent frame's image tokens [B, T, n, D] attend to its sixteen audio tokens [B, T, 16, D] with one head."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_kv = nn.Linear(DIM, DIM, bias=False), nn.Linear(DIM, 2 * DIM, bias=False)
        self.to_out = nn.Linear(DIM, DIM, bias=False)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        key, value = self.to_kv(F.layer_norm(x, (DIM,))).chunk(2, dim=-1)
        query = self.to_q(F.layer_norm(latents, (DIM,)))
        return self.to_out(F.scaled_dot_product_attention(query, key, value))


class HYVideoDiffusionTransformer(nn.Module):
    """Tokens are the reference's first frame, then the video; text is a stream of its own and then comes last. With
    ``is_cache`` only the last block runs, on ``cache_out``."""

    def __init__(self, double: int = 4, single: int = 3) -> None:
        super().__init__()
        self.hidden_size, self.patch_size, self.kept = DIM, [1, 2, 2], {}
        self.img_in, self.ref_in, self.before_proj = PatchEmbed(), PatchEmbed(), nn.Linear(DIM, DIM)
        self.txt_in, self.vector_in, self.audio_proj = nn.Linear(12, DIM), Embedder(6), Embedder(2 * 3 * 4, 4 * DIM)
        self.time_in, self.fps_proj = Embedder(), Embedder()
        self.motion_exp, self.motion_pose = Embedder(dim=DIM // 4), Embedder(dim=DIM // 4)
        self.double_blocks = nn.ModuleList(DoubleStreamBlock() for _ in range(double))
        self.single_blocks = nn.ModuleList(SingleStreamBlock() for _ in range(single))
        self.double_stream_list = list(range(1, double, 2))
        self.audio_adapter_blocks = nn.ModuleList(PerceiverAttentionCA() for _ in self.double_stream_list)
        self.final_modulation, self.final_layer = nn.Linear(DIM, 2 * DIM), nn.Linear(DIM, 16)

    @property
    def cache_out(self) -> Tensor:
        """[B, S + L, D] what the last block received."""
        return self.kept["cache_out"]

    @cache_out.setter
    def cache_out(self, value: Tensor) -> None:
        self.kept["cache_out"] = value

    def forward(
        self, x, t, ref_latents=None, text_states=None, text_mask=None, text_states_2=None, freqs_cos=None,
        freqs_sin=None, guidance=None, return_dict=True, is_cache=False, **additional_kwargs,
    ):  # fmt: skip
        given, (batch, _, frames, *_) = additional_kwargs, x.shape
        vec = self.time_in(t) + self.fps_proj(given["fps"]) + self.vector_in(text_states_2)
        for embed in (self.motion_exp, self.motion_pose):
            name = "motion_exp" if embed is self.motion_exp else "motion_pose"
            vec = vec + embed(given[name].reshape(-1)).reshape(batch, -1)
        audio = self.audio_proj(given["audio_prompts"].flatten(2)).unflatten(-1, (4, DIM))
        audio = torch.cat([audio[:, :1].repeat(1, 3, 1, 1), audio], dim=1).reshape(batch, frames, 16, DIM)
        (first, _), (reference, _) = self.img_in(ref_latents[:, :, :1].clone()), self.ref_in(ref_latents)
        img, shape = self.img_in(x)
        img, txt = torch.cat([first, self.before_proj(reference) + img], dim=-2), self.txt_in(text_states)
        start, txt_len, length = first.shape[1], txt.shape[1], img.shape[1] + txt.shape[1]
        face = given["face_mask"].repeat(1, 1, frames if given["face_mask"].shape[2] == 1 else 1, 1, 1)
        face = F.interpolate(face, size=(frames, *shape[-2:])).reshape(batch, -1, 1)
        used = img.shape[1] + text_mask.sum(1)
        ends = torch.arange(batch)[:, None] * length + torch.stack([used, torch.full((batch,), length)], dim=1)
        lengths, turns = torch.cat([torch.zeros(1).long(), ends.flatten()]), (freqs_cos, freqs_sin)
        rest = (lengths, lengths, length, length, turns)
        if is_cache:
            both = self.single_blocks[-1](self.cache_out, vec, txt_len, *rest)
        else:
            for index, block in enumerate(self.double_blocks):
                img, txt = block(img, txt, vec, *rest)
                if index in self.double_stream_list:
                    adapter = self.audio_adapter_blocks[self.double_stream_list.index(index)]
                    heard = adapter(audio, img[:, start:].clone().unflatten(1, (frames, -1))).flatten(1, 2)
                    img = img + torch.cat([torch.zeros_like(img[:, :start]), heard * face], dim=1)
            both = torch.cat((img, txt), 1)
            for block in self.single_blocks:
                if block is self.single_blocks[-1]:
                    self.cache_out = torch.cat([both[:, :-txt_len], both[:, -txt_len:]], dim=1)
                both = block(both, vec, txt_len, *rest)
        shift, scale = self.final_modulation(vec)[:, None].chunk(2, dim=-1)
        out = self.final_layer(F.layer_norm(both[:, start:-txt_len], (DIM,)) * (1 + scale) + shift)
        out = unpatched(out, (frames, *shape[-2:]))
        return {"x": out} if return_dict else out


def avatar(**given: Any) -> HYVideoDiffusionTransformer:
    return seeded(lambda: HYVideoDiffusionTransformer(**given))


def avatar_inputs(seed: int = 0, frames: int = 3, size: int = 8) -> dict[str, Any]:
    """Both guidance branches in one batch: latents [2, 4, frames, size, size] and 4 frames - 3 frames of audio by seed,
    all else the same for every seed; the first sample's last text token is padding; the face mask covers the frame."""
    noise, same = Noise(seed), Noise(99)
    x, audio = noise(1, 4, frames, size, size), noise(1, 4 * frames - 3, 2, 3, 4)
    turns = turns_of(torch.cat([places((t, size // 2, size // 2), start) for t, start in ((1, -1), (frames, 0))]))[0]
    return {
        "x": torch.cat([x, x]), "ref_latents": same(1, 4, frames, size, size).repeat(2, 1, 1, 1, 1),
        "text_states": same(2, 5, 12), "text_mask": torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]),
        "text_states_2": same(2, 6), "freqs_cos": turns.real.clone(), "freqs_sin": turns.imag.clone(),
        "audio_prompts": torch.cat([torch.zeros_like(audio), audio]),
        "face_mask": torch.full((2, 1, 1, size, size), 0.6),
        "motion_exp": torch.full((2, 4), 30), "motion_pose": torch.full((2, 4), 25), "fps": torch.tensor([25, 25]),
    }  # fmt: skip


CASES = (
    Case(
        "hunyuan-avatar", "hunyuan-avatar", avatar, avatar_inputs, lambda step: falling(step).repeat(2), filled=7,
        timestep="t", output=lambda out: out["x"],
        live=("audio_proj", "audio_adapter_blocks.0", "audio_adapter_blocks.1"),
        changed=other_audio("audio_prompts"),
    ),
)  # fmt: skip
