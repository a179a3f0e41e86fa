"""``apply`` on whatever holds a transformer: pipelines of every kind, modules that are pipelines, plain objects."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from models import Noise, wan
from torch import nn

import synccache
from synccache import InputError, Method
from synccache.forecasters import Reuse
from synccache.gates import Listed
from synccache.scopes import Segments
from synccache.targets import transformers_of
from synccache.testing import Pipeline, Video

X, TEXT = Noise(1)(1, 4, 3, 4, 6), Noise(5)(1, 5, 16)
SCHEDULER = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}


def listed(*computed: int) -> Method:
    return Method(Listed(frozenset(computed)), Segments(), Reuse())


def scheduler() -> Any:
    return diffusers.UniPCMultistepScheduler(**SCHEDULER)


class Serving(nn.Module):
    """As serving engines hold a pipeline: a module whose forward takes a request."""

    def __init__(self, *models: nn.Module) -> None:
        super().__init__()
        self.vae, self.scheduler = nn.Linear(2, 2), scheduler()
        self.transformer, self.transformer_2 = models[0], models[1] if len(models) > 1 else None

    def forward(self, request: Any) -> Any:
        raise NotImplementedError


def modular(*models: nn.Module) -> Any:
    pipe = diffusers.WanModularPipeline()
    pipe.update_components(transformer=models[0], scheduler=scheduler())
    return pipe


def classic(*models: nn.Module) -> Any:
    two = {"transformer_2": models[1], "boundary_ratio": 0.5} if len(models) > 1 else {}
    return diffusers.WanPipeline(
        tokenizer=None, text_encoder=None, vae=None, scheduler=scheduler(), transformer=models[0], **two
    )


KINDS: dict[str, tuple[int, Callable[..., Any]]] = {
    "diffusers": (1, classic),
    "diffusers, two experts": (2, classic),
    "modular": (1, modular),
    "module": (1, Serving),
    "module, two experts": (2, Serving),
    "object": (1, lambda m: SimpleNamespace(transformer=m, scheduler=scheduler())),
    "object without a scheduler": (1, lambda m: SimpleNamespace(transformer=m)),
    "components": (1, lambda m: SimpleNamespace(components={"transformer": m, "vae": None})),
    "Wan2.2 as released": (2, lambda a, b: SimpleNamespace(low_noise_model=b, high_noise_model=a)),
    "Wan2.2-S2V as released": (1, lambda m: SimpleNamespace(noise_model=m)),
    "one model under two names": (1, lambda m: SimpleNamespace(transformer=m, transformer_2=m)),
    "a transformer": (1, lambda m: m),
}


def call(model: nn.Module, timestep: float) -> torch.Tensor:
    with torch.no_grad():
        return model(X, torch.tensor([timestep]), TEXT, return_dict=False)[0]


def is_free(model: nn.Module) -> bool:
    return not any("_call_impl" in vars(m) for m in model.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind: str) -> None:
    """Each expert is cached, in the order of a run; what was attached through one view goes through another."""
    count, build = KINDS[kind]
    models = [wan.build(layers=3) for _ in range(count)]
    target = build(*models)
    plain = [call(m, 900.0) for m in models]
    assert transformers_of(target) == models
    handle = synccache.apply(target, listed(0))
    for number, model in enumerate(models):
        for step in (0, 1):
            with handle.at(run=number, step=step):
                torch.testing.assert_close(call(model, 900.0), plain[number], atol=1e-5, rtol=1e-4)
    assert [(r.expert, r.decision) for r in handle.trace.records] == [
        (n, decision) for n in range(count) for decision in ("computed", "skipped")
    ]
    other = synccache.apply(models[-1], listed(0))
    assert not handle.attached and all(map(is_free, models[:-1]))
    synccache.remove(target)
    assert not other.attached and all(map(is_free, models))
    assert all(torch.equal(call(m, 900.0), p) for m, p in zip(models, plain, strict=True))


@pytest.mark.parametrize("experts", [1, 2])
def test_a_run_of_diffusers_own_pipeline(experts: int) -> None:
    """Never skipping is bit-equal; contexts, scheduler and both experts of one run are understood."""
    pipe = classic(*(wan.build(layers=3) for _ in range(experts)))
    pipe.set_progress_bar_config(disable=True)

    def run() -> torch.Tensor:
        return pipe(
            prompt_embeds=TEXT, negative_prompt_embeds=Noise(6)(1, 5, 16), height=32, width=48, num_frames=9,
            num_inference_steps=10, guidance_scale=3.0, output_type="latent", latents=X.clone(),
        ).frames  # fmt: skip

    plain = run()
    with synccache.cached(pipe, "none"):
        assert torch.equal(run(), plain)
    with synccache.cached(pipe, "interval", interval=2, warmup=1, branches="separate") as handle:
        run()
        records = handle.trace.records
        assert {r.expert for r in records} == set(range(experts)) and len(handle.trace.runs) == 1
        assert {r.branch for r in records} == {"cond", "uncond"} and len({r.step for r in records}) == 10
        assert 0 < handle.trace.computed() < 10 and handle.bytes == 0
    assert torch.equal(run(), plain)


class Inner(Video):
    """A transformer that names a part of itself as a pipeline names its own."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.Sequential(nn.Linear(2, 2))


def test_a_transformer_may_hold_a_part_of_that_name() -> None:
    model = Inner()
    assert transformers_of(model) == [model]
    with synccache.cached(model, "none") as handle, torch.no_grad():
        model(torch.ones(1, 4, 2, 4, 4), torch.tensor([900.0]))
        assert len(handle.trace) == 1


def test_a_wrapper_that_is_called_with_a_timestep_holds_the_transformer() -> None:
    """Then the inner one is it, since it is called with a timestep as well."""

    class Guided(nn.Module):
        def __init__(self, transformer: nn.Module) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, hidden_states: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return self.transformer(hidden_states, timestep)

    model = Video()
    assert transformers_of(Guided(model)) == [model]


NONSENSE = {
    "a number": (lambda: 3, r"int is neither"),
    "a class": (lambda: Pipeline, r"Pipeline is a class\. Pass an object"),
    "nothing loaded": (lambda: SimpleNamespace(transformer=None), r"\.transformer is None\. Load it first"),
    "a modular pipeline, empty": (
        lambda: SimpleNamespace(transformer=None, components={}), r"pipe\.load_components\(\)"
    ),
    "a function": (lambda: SimpleNamespace(transformer=len), r"transformer is a builtin_function_or_method"),
    "a list of modules": (lambda: SimpleNamespace(transformer=nn.ModuleList([Video()])), r"can't be called"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NONSENSE)
def test_what_holds_no_transformer_is_refused(kind: str) -> None:
    build, message = NONSENSE[kind]
    with pytest.raises(InputError, match=message):
        synccache.apply(build())
    with pytest.raises(InputError, match=message):
        synccache.remove(build())
