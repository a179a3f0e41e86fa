"""Models by the name under which people know them: the last part of their address on the hub, without "-Diffusers"."""

from __future__ import annotations

from .calls import CALLS
from .model import Model
from .size import Size

SMALL_WAN = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}
PICTURE = {"in_channels": 36}  # latent, first frame and mask
CLIP = {**PICTURE, "image_dim": 1280, "added_kv_proj_dim": 5120}
SMALL, MEDIUM = Size(832, 480, 81), Size(1280, 720, 121)
COG_5B = {"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True}
COG_15 = {"patch_size_t": 2, "patch_bias": False, "sample_width": 170, "sample_height": 96, "sample_frames": 81}
SD35 = {"qk_norm": "rms_norm", "pos_embed_max_size": 192}
SD35_MEDIUM = {"pos_embed_max_size": 384, "dual_attention_layers": tuple(range(13))}

MODELS: dict[str, Model] = {
    m.name: m
    for m in (
        Model("cogvideox-2b", "CogVideoXTransformer3DModel"),
        Model("cogvideox-5b", "CogVideoXTransformer3DModel", COG_5B),
        Model("cogvideox1.5-5b", "CogVideoXTransformer3DModel", {**COG_5B, **COG_15}, Size(1360, 768, 81)),
        # Without the padding mask, for which diffusers needs torchvision.
        Model("cosmos-1.0-diffusion-7b-text2world", "CosmosTransformer3DModel", {"concat_padding_mask": False}),
        Model("flux.1-dev", "FluxTransformer2DModel", {"guidance_embeds": True}),
        Model("flux.1-schnell", "FluxTransformer2DModel"),
        Model("flux.2-dev", "Flux2Transformer2DModel"),
        Model("hunyuanvideo", "HunyuanVideoTransformer3DModel", {"guidance_embeds": True}),
        Model("hunyuanvideo-1.5", "HunyuanVideo15Transformer3DModel"),
        Model("hunyuanvideo-avatar", "HYVideoDiffusionTransformer"),
        Model("ltx-2", "LTX2VideoTransformer3DModel"),
        Model("ltx-video", "LTXVideoTransformer3DModel"),
        Model("mochi-1-preview", "MochiTransformer3DModel"),
        Model("portrait", "PortraitTransformer"),
        Model("qwen-image", "QwenImageTransformer2DModel"),
        Model("qwen-image-edit", "QwenImageTransformer2DModel", references=1),
        Model("skyreels-v2-t2v-14b-540p", "SkyReelsV2Transformer3DModel", {"num_attention_heads": 40, "ffn_dim": 13824,
              "num_layers": 40}),
        Model("skyreels-v2-t2v-14b-720p", "SkyReelsV2Transformer3DModel", {"num_attention_heads": 40, "ffn_dim": 13824,
              "num_layers": 40}, MEDIUM),
        Model("stable-diffusion-3-medium", "SD3Transformer2DModel", {"num_layers": 24, "num_attention_heads": 24,
              "caption_projection_dim": 1536, "pos_embed_max_size": 192}),
        Model("stable-diffusion-3.5-large", "SD3Transformer2DModel", {**SD35, "num_layers": 38,
              "num_attention_heads": 38, "caption_projection_dim": 2432}),
        Model("stable-diffusion-3.5-medium", "SD3Transformer2DModel", {**SD35, **SD35_MEDIUM, "num_layers": 24,
              "num_attention_heads": 24, "caption_projection_dim": 1536}),
        Model("wan2.1-i2v-14b-480p", "WanTransformer3DModel", CLIP, SMALL),
        Model("wan2.1-i2v-14b-720p", "WanTransformer3DModel", CLIP),
        Model("wan2.1-t2v-1.3b", "WanTransformer3DModel", SMALL_WAN, SMALL),
        Model("wan2.1-t2v-14b", "WanTransformer3DModel"),
        Model("wan2.1-vace-1.3b", "WanVACETransformer3DModel", {**SMALL_WAN, "vace_layers": tuple(range(0, 30, 2))},
              SMALL),
        Model("wan2.1-vace-14b", "WanVACETransformer3DModel"),
        Model("wan2.2-animate-14b", "WanAnimateTransformer3DModel", {"added_kv_proj_dim": 5120}),
        Model("wan2.2-i2v-a14b", "WanTransformer3DModel", PICTURE, experts=2),
        Model("wan2.2-s2v-14b", "WanModel_S2V"),
        Model("wan2.2-t2v-a14b", "WanTransformer3DModel", experts=2),
        Model("wan2.2-ti2v-5b", "WanTransformer3DModel", {"num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30,
              "in_channels": 48, "out_channels": 48}),
        Model("z-image", "ZImageTransformer2DModel"),
        Model("z-image-turbo", "ZImageTransformer2DModel", branches=1),
    )
}  # fmt: skip
assert all(model.cls in CALLS for model in MODELS.values())
