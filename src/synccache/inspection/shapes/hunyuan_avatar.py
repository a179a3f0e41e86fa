"""HunyuanVideo-Avatar's transformer in outline: 20 double and 40 single blocks, audio adapters after ten double ones.

Facts from the release (github.com/Tencent-Hunyuan/HunyuanVideo-Avatar): width 3072, 24 heads; the reference's tokens
before the video tokens, text as the second stream and appended for the single blocks; each adapter attends to sixteen
audio tokens a latent frame with one head of 1024 channels, and adds to the video tokens times the face mask.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import TimeEmbedding, attend, heads_of, latent_of, patches_of, places_of, rotary, rotate

ADAPTER = 1024
AUDIO_TOKENS = 16


class Modulation(nn.Module):
    """[B, D] to ``count`` tensors [B, 1, D]."""

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.count, self.linear = count, nn.Linear(dim, count * dim)

    def forward(self, vec: Tensor) -> tuple[Tensor, ...]:
        return self.linear(F.silu(vec))[:, None].chunk(self.count, dim=-1)


def _normed(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class Stream(nn.Module):
    """One stream's half of a double block."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mod, self.qkv, self.proj = Modulation(dim, 6), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.norm_q, self.norm_k = nn.RMSNorm(dim // heads, eps=1e-6), nn.RMSNorm(dim // heads, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim))

    def project(self, x: Tensor, shift: Tensor, scale: Tensor) -> list[Tensor]:
        """Query, key and value [B, H, S, C]."""
        query, key, value = (heads_of(v, self.heads) for v in self.qkv(_normed(x, shift, scale)).chunk(3, dim=-1))
        return [self.norm_q(query), self.norm_k(key), value]


class DoubleStreamBlock(nn.Module):
    """Image ``img`` [B, S, D] and text ``txt`` [B, L, D] attend to both together; gives (img, txt)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.image, self.text = Stream(dim, heads), Stream(dim, heads)

    def forward(
        self, img: Tensor, txt: Tensor, vec: Tensor, cu_seqlens_q=None, cu_seqlens_kv=None, max_seqlen_q=None,
        max_seqlen_kv=None, freqs_cis=None,
    ):  # fmt: skip
        of_img, of_txt = self.image.mod(vec), self.text.mod(vec)
        image, text = self.image.project(img, *of_img[:2]), self.text.project(txt, *of_txt[:2])
        image[:2] = [rotate(x, *freqs_cis) for x in image[:2]]
        mixed = attend(*(torch.cat(pair, dim=2) for pair in zip(image, text, strict=True)))
        img = img + of_img[2] * self.image.proj(mixed[:, : img.shape[1]])
        txt = txt + of_txt[2] * self.text.proj(mixed[:, img.shape[1] :])
        img = img + of_img[5] * self.image.mlp(_normed(img, *of_img[3:5]))
        return img, txt + of_txt[5] * self.text.mlp(_normed(txt, *of_txt[3:5]))


class SingleStreamBlock(nn.Module):
    """``x`` [B, S + L, D], image tokens then text tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.modulation = heads, Modulation(dim, 3)
        self.linear1, self.linear2 = nn.Linear(dim, 7 * dim), nn.Linear(5 * dim, dim)
        self.norm_q, self.norm_k = nn.RMSNorm(dim // heads, eps=1e-6), nn.RMSNorm(dim // heads, eps=1e-6)

    def forward(
        self, x: Tensor, vec: Tensor, txt_len: int, cu_seqlens_q=None, cu_seqlens_kv=None, max_seqlen_q=None,
        max_seqlen_kv=None, freqs_cis=None,
    ):  # fmt: skip
        shift, scale, gate = self.modulation(vec)
        dim, image = x.shape[-1], x.shape[1] - txt_len
        qkv, mlp = self.linear1(_normed(x, shift, scale)).split((3 * dim, 4 * dim), dim=-1)
        query, key, value = (heads_of(v, self.heads) for v in qkv.chunk(3, dim=-1))
        query, key = self.norm_q(query), self.norm_k(key)
        query, key = (torch.cat([rotate(v[:, :, :image], *freqs_cis), v[:, :, image:]], dim=2) for v in (query, key))
        mixed = attend(query, key, value)
        return x + gate * self.linear2(torch.cat([mixed, F.gelu(mlp, approximate="tanh")], dim=-1))


class PerceiverAttentionCA(nn.Module):
    """Single-head attention of each frame's image tokens ``x`` [B, T, n, D] onto its ``audio`` [B, T, 16, D]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm_x, self.norm_audio = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.to_q, self.to_kv = nn.Linear(dim, ADAPTER, bias=False), nn.Linear(dim, 2 * ADAPTER, bias=False)
        self.to_out = nn.Linear(ADAPTER, dim, bias=False)

    def forward(self, audio: Tensor, x: Tensor) -> Tensor:
        key, value = self.to_kv(self.norm_audio(audio)).chunk(2, dim=-1)
        return self.to_out(F.scaled_dot_product_attention(self.to_q(self.norm_x(x)), key, value))


class HYVideoDiffusionTransformer(nn.Module):
    """Predicts the velocity of latents.

    Args of ``forward``:
        x, ref_latents: [B, 16, T, h, w].
        t: [B] timesteps, 0 to 1000.
        text_states: [B, L, 4096]; text_states_2: [B, 768].
        freqs_cos, freqs_sin: rotary tables of the image tokens; made here where they are None.
        face_mask: [B, 1, T or 1, h, w], 0 to 1.
        audio_prompts: [B, T, 16, 384] audio features of each latent frame.

    Returns ``{"x": [B, 16, T, h, w]}``, or the tensor alone.
    """

    def __init__(
        self, hidden_size: int = 3072, heads_num: int = 24, depth_double_blocks: int = 20,
        depth_single_blocks: int = 40, text_dim: int = 4096, audio_dim: int = 384,
    ) -> None:  # fmt: skip
        super().__init__()
        dim, self.hidden_size, self.heads_num, self.patch_size = hidden_size, hidden_size, heads_num, (1, 2, 2)
        self.img_in = nn.Conv3d(16, dim, self.patch_size, self.patch_size)
        self.ref_in = nn.Conv3d(16, dim, self.patch_size, self.patch_size)
        self.before_proj, self.txt_in = nn.Linear(dim, dim), nn.Linear(text_dim, dim)
        self.time_in, self.vector_in = TimeEmbedding(dim), nn.Linear(768, dim)
        self.double_blocks = nn.ModuleList(DoubleStreamBlock(dim, heads_num) for _ in range(depth_double_blocks))
        self.single_blocks = nn.ModuleList(SingleStreamBlock(dim, heads_num) for _ in range(depth_single_blocks))
        self.double_stream_list = list(range(1, depth_double_blocks, 2))
        self.audio_proj = nn.Sequential(nn.Linear(audio_dim, dim), nn.LayerNorm(dim))
        self.audio_adapter_blocks = nn.ModuleList(PerceiverAttentionCA(dim) for _ in self.double_stream_list)
        self.final_mod, self.final_layer = Modulation(dim, 2), nn.Linear(dim, 64)

    def forward(
        self, x, t, ref_latents=None, text_states=None, text_mask=None, text_states_2=None, freqs_cos=None,
        freqs_sin=None, guidance=None, return_dict=True, is_cache=False, face_mask=None, audio_prompts=None,
    ):  # fmt: skip
        grid = x.shape[2], x.shape[3] // 2, x.shape[4] // 2
        reference = patches_of(self.img_in, ref_latents[:, :, :1])
        img = patches_of(self.img_in, x) + self.before_proj(patches_of(self.ref_in, ref_latents))
        start = reference.shape[1]
        img, txt = torch.cat([reference, img], dim=1), self.txt_in(text_states)
        vec = self.time_in(t) + self.vector_in(text_states_2)
        if freqs_cos is None:
            freqs_cos, freqs_sin = self._turns(grid, x.device)
        mask = F.interpolate(face_mask.float(), size=grid).flatten(2).transpose(1, 2).to(img.dtype)
        audio, turns = self.audio_proj(audio_prompts), (freqs_cos, freqs_sin)
        for index, block in enumerate(self.double_blocks):
            img, txt = block(img, txt, vec, None, None, None, None, turns)
            if index in self.double_stream_list:
                adapter = self.audio_adapter_blocks[self.double_stream_list.index(index)]
                heard = adapter(audio, img[:, start:].unflatten(1, (grid[0], -1))).flatten(1, 2) * mask
                img = img + torch.cat([torch.zeros_like(img[:, :start]), heard], dim=1)
        both = torch.cat([img, txt], dim=1)
        for block in self.single_blocks:
            both = block(both, vec, txt.shape[1], None, None, None, None, turns)
        out = _normed(both[:, start : img.shape[1]], *self.final_mod(vec))
        latent = latent_of(self.final_layer(out), grid, 16)
        return {"x": latent} if return_dict else latent

    def _turns(self, grid: tuple[int, int, int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Rotary tables of the reference, which stands at t = -1, and of the video."""
        head = self.hidden_size // self.heads_num
        time = 2 * (head // 16)
        places = torch.cat([places_of((1, *grid[1:]), -1, device), places_of(grid, 0, device)])
        return rotary(places, (time, (head - time) // 2, (head - time) // 2), 256.0)
