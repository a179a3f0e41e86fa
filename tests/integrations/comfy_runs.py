"""Sampling with the doubles of ComfyUI."""

import torch
from comfy_doubles import BaseModel, Guider, Patcher
from comfy_models import AnimateWanModel, VaceWanModel, WanModel, WanModel_S2V

MODELS = (WanModel, WanModel_S2V, VaceWanModel, AnimateWanModel)
SIGMAS = torch.linspace(1, 0, 21)


def patcher_of(cls, **kwargs):
    return Patcher(BaseModel(cls(**kwargs)))


def inputs(cls, seed=0):
    """Positive and negative conditioning: text [1, 3, 12], and for S2V audio [1, 12] and a reference latent."""
    random = torch.Generator().manual_seed(seed)
    positive = {"context": torch.randn(1, 3, 12, generator=random)}
    negative = {"context": torch.randn(1, 3, 12, generator=random)}
    if cls is WanModel_S2V:
        reference = torch.randn(1, 4, 1, 4, 4, generator=random)
        audio = torch.randn(1, 12, generator=random)
        positive |= {"audio_embed": audio, "reference_latent": reference}
        negative |= {"audio_embed": 0 * audio, "reference_latent": reference}
    return positive, negative


def noise(frames=2, height=4, seed=1):
    return torch.randn(1, 4, frames, height, 4, generator=torch.Generator().manual_seed(seed))


def sample(patcher, latent=None, sigmas=SIGMAS, **guider):
    cls = type(patcher.model.diffusion_model)
    return Guider(patcher, *inputs(cls), **guider).sample(noise() if latent is None else latent, sigmas)


def trace_of(patcher):
    return patcher.wrappers["outer_sample"]["synccache"][0].__self__.trace


def hooked(patcher):
    """Classes of the modules whose call is hooked."""
    return [type(m).__name__ for m in patcher.model.modules() if "_call_impl" in vars(m)]
