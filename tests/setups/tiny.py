"""Tiny diffusers models, their inputs, and a run of them, for the tests of what users combine a cache with."""

from collections.abc import Iterable
from types import SimpleNamespace

import diffusers
import torch
from torch import Tensor, nn

import synccache

STEPS = 10  # of ``denoise``
COMPUTED = [0, 1, 3]  # of these: the rest is skipped
LIVE = [STEPS, 3, 3, 3, 3]  # calls of each block, of which the probe always runs


def tiny_wan(layers: int = 5) -> diffusers.WanTransformer3DModel:
    """A Wan text-to-video transformer of width 16 with two heads, in evaluation mode."""
    torch.manual_seed(0)
    return diffusers.WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, text_dim=8, freq_dim=8, ffn_dim=16,
        num_layers=layers, rope_max_seq_len=16,
    ).eval()  # fmt: skip


def wan_inputs(seed: int = 0, batch: int = 1) -> SimpleNamespace:
    """A latent [B, 4, 2, 8, 8], which makes 32 tokens, and a text embedding [B, 4, 8]."""
    random = torch.Generator().manual_seed(seed)
    latent, text = torch.randn(batch, 4, 2, 8, 8, generator=random), torch.randn(batch, 4, 8, generator=random)
    return SimpleNamespace(latent=latent, text=text)


def denoise(model: nn.Module, steps: int = STEPS, seed: int = 0, stop: int | None = None) -> Tensor:
    """``steps`` Euler steps from timestep 1000 down, without gradients; gives the last latent [1, 4, 2, 8, 8].

    Args:
        stop: break off after so many steps.
    """
    inputs = wan_inputs(seed)
    latent = inputs.latent
    with torch.no_grad():
        for index in range(steps if stop is None else stop):
            timestep = torch.tensor([1000.0 * (1 - index / steps)])
            latent = latent - model(latent, timestep, inputs.text, return_dict=False)[0] / steps
    return latent


def cached(target: nn.Module, computed: Iterable[int] = COMPUTED, probe: int = 1, forecaster=None, **given):
    """The first ``probe`` blocks run on every step, the others on the ``computed`` ones; in between they are reused."""
    gate = synccache.gates.Listed(frozenset(computed), probe=probe)
    method = synccache.Method(gate, synccache.scopes.Segments(), forecaster or synccache.forecasters.Reuse())
    return synccache.cached(target, method, **given)


def count_calls(modules: Iterable[nn.Module]) -> list[int]:
    """How often each module was called: a list that is kept up to date from now on."""
    modules = list(modules)
    counts = [0] * len(modules)

    def counting(index: int):
        def count(*_) -> None:
            counts[index] += 1

        return count

    for index, module in enumerate(modules):
        module.register_forward_pre_hook(counting(index))
    return counts
