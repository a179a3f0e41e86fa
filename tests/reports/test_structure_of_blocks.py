"""Which blocks of diffusers' own classes are found by structure, and in which order, in one call at a tiny size."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from models import Noise, seeded
from torch import nn

from synccache.anatomies import generic
from synccache.core.anatomy import Visit, bind, original_class


def record(model: nn.Module, candidates: tuple[nn.Module, ...], inputs: dict[str, Any]) -> list[Visit]:
    visits, running, hooks = [], [], []

    def enter(module, args, kwargs):
        bound = bind(original_class(module), args, kwargs)
        visits.append(Visit(module, bound, None, running[-1] if running else None))
        running.append(len(visits) - 1)

    def leave(module, args, kwargs, output):
        number = running.pop()
        visits[number] = Visit(module, visits[number].bound, output, visits[number].inside)

    for module in candidates:
        hooks += [module.register_forward_pre_hook(enter, with_kwargs=True)]
        hooks += [module.register_forward_hook(leave, with_kwargs=True)]
    with torch.no_grad():
        model(**inputs)
    for hook in hooks:
        hook.remove()
    return visits


def in_runs(model: nn.Module, blocks: tuple[nn.Module, ...]) -> str:
    """``"double.0-3 single.0-4"``: names of the blocks in their order."""
    names, runs = {module: name for name, module in model.named_modules()}, []
    for block in blocks:
        path, _, index = names[block].rpartition(".")
        if runs and runs[-1][0] == path and int(index) == runs[-1][2] + 1:
            runs[-1][2] = int(index)
        else:
            runs.append([path, int(index), int(index)])
    return " ".join(f"{path}.{first}" if first == last else f"{path}.{first}-{last}" for path, first, last in runs)


# Of each class: a tiny configuration; its inputs; the blocks in their order, those of two streams and of one three and
# four times, others four times; after which of them the tokens change; and what of repeated blocks is not covered.
noise, one = Noise(0), torch.tensor([0.5])
heads = {"num_attention_heads": 2, "attention_head_dim": 8}
picture, film, prompt = noise(1, 4, 8, 8), noise(1, 4, 2, 8, 8), noise(1, 6, 16)
packed = {
    "hidden_states": noise(1, 16, 4), "encoder_hidden_states": prompt, "timestep": one,
    "img_ids": noise(16, 3), "txt_ids": noise(6, 3),
}  # fmt: skip
plain = {"hidden_states": picture, "encoder_hidden_states": prompt, "timestep": one}

JOINT = {
    "AuraFlowTransformer2DModel": (
        {**heads, "sample_size": 8, "in_channels": 4, "out_channels": 4, "num_mmdit_layers": 3,
         "num_single_dit_layers": 4, "joint_attention_dim": 16, "caption_projection_dim": 16,
         "pos_embed_max_size": 64},
        plain, "joint_transformer_blocks.0-2 single_transformer_blocks.0-3", (2,),
    ),
    "BriaTransformer2DModel": (
        {**heads, "in_channels": 4, "num_layers": 3, "num_single_layers": 4, "joint_attention_dim": 16,
         "axes_dims_rope": [0, 4, 4], "pooled_projection_dim": None},
        packed, "transformer_blocks.0-2 single_transformer_blocks.0-3", (),
    ),
    "BriaFiboTransformer2DModel": (
        {**heads, "in_channels": 4, "num_layers": 3, "num_single_layers": 4, "joint_attention_dim": 16,
         "text_encoder_dim": 12, "pooled_projection_dim": None, "axes_dims_rope": [0, 4, 4]},
        {**packed, "text_encoder_layers": [noise(1, 6, 12) for _ in range(7)]},
        "transformer_blocks.0-2 single_transformer_blocks.0-3", (2,),
    ),
    "ChromaTransformer2DModel": (
        {**heads, "in_channels": 4, "num_layers": 3, "num_single_layers": 4, "joint_attention_dim": 16,
         "axes_dims_rope": [2, 2, 4], "approximator_num_channels": 8, "approximator_hidden_dim": 16,
         "approximator_layers": 2},
        packed, "transformer_blocks.0-2 single_transformer_blocks.0-3", (2,),
    ),
    "HiDreamImageTransformer2DModel": (
        {**heads, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 3, "num_single_layers": 4,
         "caption_channels": [16, 16], "text_emb_dim": 8, "num_routed_experts": 2, "num_activated_experts": 1,
         "axes_dims_rope": (4, 2, 2), "max_resolution": (8, 8), "llama_layers": tuple(range(7)),
         "force_inference_output": True},
        {"hidden_states": picture, "timesteps": one, "encoder_hidden_states_t5": noise(1, 16, 16),
         "encoder_hidden_states_llama3": noise(7, 1, 16, 16), "pooled_embeds": noise(1, 8)},
        "double_stream_blocks.0-2 single_stream_blocks.0-3", (2,),
    ),
    "HunyuanVideoFramepackTransformer3DModel": (
        {"num_attention_heads": 2, "attention_head_dim": 10, "in_channels": 4, "out_channels": 4, "num_layers": 3,
         "num_single_layers": 4, "num_refiner_layers": 2, "patch_size": 2, "patch_size_t": 1, "text_embed_dim": 16,
         "pooled_projection_dim": 8, "rope_axes_dim": (2, 4, 4), "image_condition_type": None, "has_image_proj": True,
         "image_proj_dim": 16, "has_clean_x_embedder": True},
        {"hidden_states": noise(1, 4, 3, 4, 4), "timestep": torch.tensor([500]), "encoder_hidden_states": prompt,
         "pooled_projections": noise(1, 8), "encoder_attention_mask": torch.ones(1, 6), "guidance": torch.tensor([6]),
         "image_embeds": noise(1, 6, 16), "indices_latents": torch.ones(3), "latents_clean": noise(1, 4, 2, 4, 4),
         "indices_latents_clean": torch.ones(2), "latents_history_2x": noise(1, 4, 2, 4, 4),
         "indices_latents_history_2x": torch.ones(2), "latents_history_4x": noise(1, 4, 8, 4, 4),
         "indices_latents_history_4x": torch.ones(8)},
        "transformer_blocks.0-2 single_transformer_blocks.0-3", (), "context_embedder.token_refiner.refiner_blocks.0-1",
    ),
    "HunyuanImageTransformer2DModel": (
        {**heads, "in_channels": 4, "out_channels": 4, "num_layers": 3, "num_single_layers": 4, "num_refiner_layers": 2,
         "text_embed_dim": 16, "rope_axes_dim": (4, 4)},
        {**plain, "encoder_attention_mask": torch.ones(1, 6, dtype=torch.bool)},
        "transformer_blocks.0-2 single_transformer_blocks.0-3", (), "context_embedder.token_refiner.refiner_blocks.0-1",
    ),
    "LongCatImageTransformer2DModel": (
        {**heads, "in_channels": 4, "num_layers": 3, "num_single_layers": 4, "joint_attention_dim": 16,
         "pooled_projection_dim": 16, "axes_dims_rope": [2, 2, 4]},
        {**packed, "guidance": one}, "transformer_blocks.0-2 single_transformer_blocks.0-3", (),
    ),
    "OvisImageTransformer2DModel": (
        {**heads, "in_channels": 4, "out_channels": 4, "num_layers": 3, "num_single_layers": 4,
         "joint_attention_dim": 16, "axes_dims_rope": (2, 2, 4)},
        packed, "transformer_blocks.0-2 single_transformer_blocks.0-3", (),
    ),
}  # fmt: skip

MORE = {
    "Lumina2Transformer2DModel": (
        {"sample_size": 8, "in_channels": 4, "hidden_size": 24, "num_layers": 4, "num_refiner_layers": 2,
         "num_attention_heads": 3, "num_kv_heads": 1, "multiple_of": 2, "axes_dim_rope": (4, 2, 2),
         "axes_lens": (64, 64, 64), "cap_feat_dim": 16},
        {**plain, "encoder_hidden_states": noise(1, 40, 16),
         "encoder_attention_mask": torch.ones(1, 40, dtype=torch.bool)},
        "noise_refiner.0-1 layers.0-3", (1,), "context_refiner.0-1",
    ),
    "BriaFibo2Transformer2DModel": (
        {"in_channels": 4, "dim": 32, "n_layers": 4, "n_heads": 2, "cap_feat_dim": 16, "injection_layer_ids": (1, 3),
         "min_num_gist_tokens": 4, "max_num_gist_tokens": 8, "gist_step": 2, "gist_min_text_len": 4,
         "gist_max_text_len": 8, "axes_dims": (8, 4, 4), "axes_lens": (32, 8, 8)},
        {**plain, "encoder_hidden_states": noise(1, 3, 6, 16)}, "noise_refiner.0-1 layers.0-3", (1,),
        "perceiver.layers.0-1",
    ),
    "LatteTransformer3DModel": (
        {**heads, "sample_size": 8, "num_layers": 3, "patch_size": 2, "caption_channels": 16, "in_channels": 4,
         "cross_attention_dim": 16, "out_channels": 8, "attention_bias": True, "num_embeds_ada_norm": 1000,
         "norm_type": "ada_norm_single", "norm_elementwise_affine": False, "video_length": 2},
        {**plain, "hidden_states": film},
        "transformer_blocks.0 temporal_transformer_blocks.0 transformer_blocks.1 temporal_transformer_blocks.1 "
        "transformer_blocks.2 temporal_transformer_blocks.2", (0, 1, 2, 3, 4),
    ),
    "ConsisIDTransformer3DModel": (
        {**heads, "in_channels": 4, "out_channels": 4, "time_embed_dim": 8, "text_embed_dim": 16, "num_layers": 4,
         "sample_width": 8, "sample_height": 8, "sample_frames": 5, "max_text_seq_length": 6, "cross_attn_interval": 2,
         "is_train_face": True, "cross_attn_dim_head": 4, "cross_attn_num_heads": 2, "LFE_id_dim": 8, "LFE_vit_dim": 8,
         "LFE_depth": 5, "LFE_dim_head": 4, "LFE_num_heads": 2, "LFE_num_id_token": 1, "LFE_num_querie": 2,
         "LFE_output_dim": 10, "LFE_ff_mult": 1, "LFE_num_scale": 5},
        {**plain, "hidden_states": film.transpose(1, 2), "id_cond": noise(1, 8),
         "id_vit_hidden": [noise(1, 3, 8) for _ in range(5)]},
        "transformer_blocks.0-3", (),
    ),
    "Flux3Transformer2DModel": (
        {**heads, "in_channels": 4, "cond_in_channels": 4, "num_layers": 2, "num_single_layers": 4,
         "joint_attention_dim": 16, "axes_dims_rope": (2, 2, 2, 2)},
        {**packed, "img_ids": noise(16, 4), "txt_ids": noise(6, 4)},
        "mode_blocks.image.0-1 single_transformer_blocks.0-3", (), "txt_mode_blocks.0-1",
    ),
    "Kandinsky5Transformer3DModel": (
        {"in_visual_dim": 4, "in_text_dim": 16, "in_text_dim2": 8, "time_dim": 8, "out_visual_dim": 4, "model_dim": 16,
         "ff_dim": 32, "num_text_blocks": 2, "num_visual_blocks": 4, "axes_dims": (4, 2, 2)},
        {**plain, "hidden_states": noise(1, 2, 8, 8, 4), "pooled_projections": noise(1, 8),
         "visual_rope_pos": tuple(torch.arange(n) for n in (2, 4, 4)), "text_rope_pos": torch.arange(6)},
        "visual_transformer_blocks.0-3", (), "text_transformer_blocks.0-1",
    ),
    "Kandinsky6Transformer3DModel": (
        {"in_visual_dim": 4, "out_visual_dim": 4, "in_text_dim": 16, "in_text_dim2": 8, "time_dim": 8, "model_dim": 16,
         "ff_dim": 32, "num_text_blocks": 2, "num_visual_blocks": 4, "axes_dims": (4, 2, 2), "in_audio_dim": 4,
         "out_audio_dim": 4, "visual_cond": False},
        {**plain, "hidden_states": noise(1, 2, 8, 8, 4), "pooled_projections": noise(1, 8),
         "audio_hidden_states": noise(1, 5, 4)},
        "visual_transformer_blocks.0-3", (), "video_text_transformer_blocks.0-1", "audio_text_transformer_blocks.0-1",
    ),
    "MotifVideoTransformer3DModel": (
        {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "num_layers": 3,
         "num_single_layers": 5, "num_decoder_layers": 2, "patch_size": 2, "text_embed_dim": 16, "image_embed_dim": 4,
         "rope_axes_dim": (4, 4, 4)},
        {**plain, "hidden_states": film}, "transformer_blocks.0-2 single_transformer_blocks.0-2", (),
        "single_transformer_blocks.3-4",
    ),
    "HunyuanDiT2DModel": (
        {"sample_size": 8, "patch_size": 2, "in_channels": 4, "num_layers": 4, "attention_head_dim": 8,
         "num_attention_heads": 2, "cross_attention_dim": 8, "cross_attention_dim_t5": 8, "pooled_projection_dim": 4,
         "hidden_size": 16, "text_len": 4, "text_len_t5": 4, "activation_fn": "gelu-approximate"},
        {"hidden_states": picture, "timestep": one, "encoder_hidden_states": noise(1, 4, 8),
         "text_embedding_mask": torch.ones(1, 4), "encoder_hidden_states_t5": noise(1, 4, 8),
         "text_embedding_mask_t5": torch.ones(1, 4), "image_meta_size": torch.ones(1, 6),
         "style": torch.zeros(1, dtype=torch.int), "image_rotary_emb": [torch.ones(1, 8), torch.zeros(1, 8)]},
        "blocks.0-3", (),
    ),
    "StableAudioDiTModel": (
        {**heads, "sample_size": 16, "in_channels": 4, "out_channels": 4, "num_layers": 4,
         "num_key_value_attention_heads": 2, "cross_attention_dim": 16, "time_proj_dim": 8,
         "global_states_input_dim": 8, "cross_attention_input_dim": 16},
        {"hidden_states": noise(1, 4, 16), "timestep": one, "encoder_hidden_states": prompt,
         "global_hidden_states": noise(1, 1, 8),
         "rotary_embedding": (torch.ones(17, 4), torch.zeros(17, 4))},
        "transformer_blocks.0-3", (),
    ),
}  # fmt: skip

words = {**heads, "in_channels": 4, "out_channels": 4, "num_layers": 4}
PLAIN = {
    "AllegroTransformer3DModel": (
        {**words, "cross_attention_dim": 16, "sample_width": 8, "sample_height": 8, "sample_frames": 8,
         "caption_channels": 16},
        {**plain, "hidden_states": film}, "transformer_blocks.0-3", (),
    ),
    "DiTTransformer2DModel": (
        {**words, "out_channels": 8, "num_embeds_ada_norm": 8, "sample_size": 8},
        {"hidden_states": picture, "timestep": one, "class_labels": torch.tensor([1])}, "transformer_blocks.0-3", (),
    ),
    "EasyAnimateTransformer3DModel": (
        {**words, "attention_head_dim": 16, "mmdit_layers": 2, "patch_size": 2, "text_embed_dim": 16,
         "time_embed_dim": 8, "sample_height": 8, "sample_width": 8},
        {**plain, "hidden_states": film}, "transformer_blocks.0-3", (),
    ),
    "HeliosTransformer3DModel": (
        {**words, "attention_head_dim": 12, "text_dim": 16, "ffn_dim": 32, "rope_dim": (4, 4, 4)},
        {**plain, "hidden_states": film}, "blocks.0-3", (),
    ),
    "Krea2Transformer2DModel": (
        {"in_channels": 4, "num_layers": 4, "attention_head_dim": 8, "num_attention_heads": 2,
         "num_key_value_heads": 1, "intermediate_size": 16, "timestep_embed_dim": 8, "text_hidden_dim": 8,
         "num_text_layers": 3, "text_num_attention_heads": 2, "text_num_key_value_heads": 1,
         "text_intermediate_size": 16, "num_layerwise_text_blocks": 2, "num_refiner_text_blocks": 2,
         "axes_dims_rope": (4, 2, 2)},
        {"hidden_states": noise(1, 4, 4), "encoder_hidden_states": noise(1, 5, 3, 8), "timestep": one,
         "position_ids": torch.zeros(9, 3)},
        "transformer_blocks.0-3", (), "text_fusion.layerwise_blocks.0-1", "text_fusion.refiner_blocks.0-1",
    ),
    "LongCatAudioDiTTransformer": (
        {"dit_dim": 32, "dit_depth": 4, "dit_heads": 2, "dit_text_dim": 16, "latent_dim": 4, "text_conv": False},
        {"hidden_states": noise(1, 8, 4), "encoder_hidden_states": prompt, "timestep": one,
         "encoder_attention_mask": torch.ones(1, 6, dtype=torch.bool),
         "attention_mask": torch.ones(1, 8, dtype=torch.bool)},
        "blocks.0-3", (),
    ),
    "OmniGenTransformer2DModel": (
        {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32,
         "num_layers": 4, "vocab_size": 20, "in_channels": 4, "time_step_dim": 4, "pad_token_id": 0,
         "rope_scaling": {"long_factor": [1, 2, 3, 4], "short_factor": [1, 2, 3, 4]}},
        {"hidden_states": picture, "timestep": one, "input_ids": torch.tensor([[3, 1, 4]]), "input_img_latents": [],
         "input_image_sizes": {}, "attention_mask": torch.ones(1, 20, 20),
         "position_ids": torch.arange(20)[None]},
        "layers.0-3", (),
    ),
    "PixArtTransformer2DModel": (
        {**words, "cross_attention_dim": 16, "out_channels": 8, "sample_size": 8, "caption_channels": 16,
         "use_additional_conditions": False, "num_embeds_ada_norm": 8},
        {**plain, "added_cond_kwargs": {"aspect_ratio": None, "resolution": None}}, "transformer_blocks.0-3", (),
    ),
    "PRXTransformer2DModel": (
        {"in_channels": 4, "context_in_dim": 16, "hidden_size": 32, "num_heads": 2, "depth": 4, "axes_dim": [8, 8]},
        plain, "blocks.0-3", (),
    ),
    "SanaTransformer2DModel": (
        {**words, "num_cross_attention_heads": 2, "cross_attention_head_dim": 8, "cross_attention_dim": 16,
         "caption_channels": 16, "sample_size": 8},
        plain, "transformer_blocks.0-3", (),
    ),
    "SanaVideoTransformer3DModel": (
        {**words, "attention_head_dim": 12, "num_cross_attention_heads": 2, "cross_attention_head_dim": 12,
         "cross_attention_dim": 24, "caption_channels": 16, "sample_size": 8},
        {**plain, "hidden_states": film}, "transformer_blocks.0-3", (),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*JOINT, *MORE, *PLAIN])
@pytest.mark.filterwarnings("ignore::FutureWarning")  # diffusers' own deprecations
def test_blocks_that_run_as_a_chain_are_found(name):
    config, inputs, expected, breaks, *uncovered = {**JOINT, **MORE, **PLAIN}[name]
    model = seeded(lambda: getattr(diffusers, name)(**config))
    anatomy = generic.recognise(model)
    found = anatomy.observe(record(model, anatomy.candidates, inputs))
    assert (in_runs(model, found.blocks), found.breaks, found.uncovered) == (expected, breaks, (*uncovered,))
