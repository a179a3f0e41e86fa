"""Structural doubles of ComfyUI's native Wan models (``comfy/ldm/wan/model.py``, ``model_animate.py``).

``forward`` runs the DIFFUSION_MODEL wrappers around ``_forward``, which pads and calls ``forward_orig``: embedding,
blocks called with keywords (or by a ``patches_replace["dit"]`` patch), what comes between them, head.
"""

import torch
import torch.nn.functional as F
from comfy_doubles import WrappersMP, wrapped
from torch import Tensor, nn


class WanAttentionBlock(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv, self.out, self.text = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) * 0.1)
        self.calls = 0

    def forward(self, x, e, freqs, context, context_img_len=257, transformer_options=None):
        self.calls += 1
        assert e.ndim == 4 and freqs.shape[1] == x.shape[1]
        parts = [p.repeat_interleave(-(-x.shape[1] // e.shape[1]), 1)[:, : x.shape[1]] for p in
                 (self.modulation.unsqueeze(0) + e).unbind(2)]  # fmt: skip
        query, key, value = self.qkv(F.layer_norm(x, x.shape[-1:]) * (1 + parts[1]) + parts[0] + freqs).chunk(3, -1)
        x = torch.addcmul(x, self.out(F.scaled_dot_product_attention(query, key, value)), 0.3 + 0.1 * parts[2])
        return x + 0.2 * self.text(context).mean(1, keepdim=True)


class WanModel(nn.Module):
    """Nothing comes between the blocks."""

    def __init__(self, dim: int = 12, layers: int = 6) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dim, self.patch_size, self.ref_conv = dim, (1, 2, 2), None
        self.patch_embedding = nn.Conv3d(4, dim, self.patch_size, self.patch_size)
        self.time_projection = nn.Linear(4, 6 * dim)
        self.blocks = nn.ModuleList(WanAttentionBlock(dim) for _ in range(layers))
        self.head = nn.Linear(dim, 16)

    def forward(self, x, timestep, context, clip_fea=None, time_dim_concat=None, transformer_options=None, **kwargs):
        run = wrapped(WrappersMP.DIFFUSION_MODEL, self._forward, self, transformer_options)
        return run.execute(x, timestep, context, clip_fea, time_dim_concat, transformer_options, **kwargs)

    def _forward(self, x, timestep, context, clip_fea=None, time_dim_concat=None, transformer_options=None, **kwargs):
        t, h, w = x.shape[-3:]
        x = F.pad(x, (0, w % 2, 0, h % 2))
        out = self.forward_orig(x, timestep, context, transformer_options=transformer_options, **kwargs)
        return out[:, :, :t, :h, :w]

    def embed_time(self, t: Tensor) -> Tensor:
        """[B] or [B, F] to [B, F, 6, dim]."""
        t = t.reshape(t.shape[0], -1)[..., None] / 1000
        return self.time_projection(torch.cat([t, t**2, (3 * t).sin(), (5 * t).cos()], -1)).unflatten(2, (6, self.dim))

    def positions(self, x: Tensor) -> Tensor:
        return torch.linspace(-0.5, 0.5, x.shape[1])[None, :, None]

    def forward_orig(self, x, t, context, transformer_options=None, **kwargs):
        x = self.patch_embedding(x)
        grid = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        x = self.run_blocks(x, self.embed_time(t), context, transformer_options, **kwargs)
        return self.unpatchify(self.head(x), grid)

    def run_blocks(self, x, e, context, transformer_options, **kwargs):
        replace = transformer_options.get("patches_replace", {}).get("dit", {})
        freqs, state = self.positions(x), self.prepare(x, **kwargs)
        for i, block in enumerate(self.blocks):
            if ("double_block", i) in replace:

                def original(args, block=block):
                    options = args["transformer_options"]
                    return {
                        "img": block(
                            args["img"], context=args["txt"], e=args["vec"], freqs=args["pe"],
                            transformer_options=options,
                        )
                    }  # fmt: skip

                args = {"img": x, "txt": context, "vec": e, "pe": freqs, "transformer_options": transformer_options}
                x = replace["double_block", i](args, {"original_block": original})["img"]
            else:
                x = block(x, e=e, freqs=freqs, context=context, transformer_options=transformer_options)
            x = self.between(i, x, state)
        return x

    def prepare(self, x, **kwargs):
        return None

    def between(self, i, x, state):
        return x

    def unpatchify(self, x: Tensor, grid: torch.Size) -> Tensor:
        t, h, w = grid
        x = x[:, : t * h * w].reshape(-1, t, h, w, 4, 2, 2).permute(0, 4, 1, 2, 5, 3, 6)
        return x.reshape(-1, 4, t, 2 * h, 2 * w)


class AudioInjector_WAN(nn.Module):
    def __init__(self, dim: int, sites: tuple[int, ...]) -> None:
        super().__init__()
        self.injected_block_id = {site: i for i, site in enumerate(sites)}
        self.injector = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in sites)
        self.injected: list[int] = []

    def forward(self, x, block_id, audio_emb, audio_emb_global, seq_len):
        if block_id not in self.injected_block_id:
            return x
        self.injected.append(block_id)
        video = x[:, :seq_len]
        heard = self.injector[self.injected_block_id[block_id]](torch.cat([video, audio_emb.expand_as(video)], -1))
        x[:, :seq_len] = video + heard.tanh()
        return x


class WanModel_S2V(WanModel):
    """Audio goes in place into the video tokens after blocks 0, 2 and 5; reference tokens follow the video tokens."""

    def __init__(self, dim: int = 12, layers: int = 6) -> None:
        super().__init__(dim, layers)
        self.audio_injector = AudioInjector_WAN(dim, (0, 2, 5))

    def forward_orig(self, x, t, context, audio_embed=None, reference_latent=None, transformer_options=None, **kwargs):
        x = self.patch_embedding(x)
        grid = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        seq_len = x.shape[1]
        t = t.unsqueeze(1).repeat(1, grid[0]) if t.ndim == 1 else t
        if reference_latent is not None:
            ref = self.patch_embedding(reference_latent).flatten(2).transpose(1, 2)
            x, t = torch.cat([x, ref], 1), torch.cat([t, torch.zeros(t.shape[0], reference_latent.shape[2])], 1)
        x = self.run_blocks(x, self.embed_time(t), context, transformer_options, audio=audio_embed, seq_len=seq_len)
        return self.unpatchify(self.head(x), grid)

    def prepare(self, x, audio=None, seq_len=0):
        return audio, seq_len

    def between(self, i, x, state):
        audio, seq_len = state
        return x if audio is None else self.audio_injector(x, i, audio[:, None], None, seq_len)


class VaceWanModel(WanModel):
    """Hints from blocks of their own are added in place after blocks 0, 2 and 4."""

    def __init__(self, dim: int = 12, layers: int = 6) -> None:
        super().__init__(dim, layers)
        self.vace_layers_mapping = {0: 0, 2: 1, 4: 2}
        self.vace_blocks = nn.ModuleList(nn.Linear(dim, dim) for _ in range(3))

    def prepare(self, x, **kwargs):
        return [x]

    def between(self, i, x, state):
        if i in self.vace_layers_mapping:
            state[0] = self.vace_blocks[self.vace_layers_mapping[i]](state[0])
            x += 0.5 * state[0]
        return x


class AnimateWanModel(WanModel):
    """What the face does is added, into a new tensor, after every fifth block."""

    def __init__(self, dim: int = 12, layers: int = 6) -> None:
        super().__init__(dim, layers)
        self.face = nn.ModuleList(nn.Linear(dim, dim) for _ in range(2))

    def between(self, i, x, state):
        return x + self.face[i // 5](x).tanh() if i % 5 == 0 else x


class WanAnimate2Model(WanModel):
    """Goes past its blocks' call."""
