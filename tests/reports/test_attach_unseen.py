"""Nobody else can tell that a cache is attached: tables keyed by class, guiders, contexts, other caches."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import pytest
import torch
from diffusers.guiders import AutoGuidance, PerturbedAttentionGuidance, SkipLayerGuidance
from diffusers.hooks import LayerSkipConfig
from models import Noise, wan
from models.image import build_qwen, qwen
from torch import Tensor, nn

import synccache
from synccache import Conflict, Method
from synccache.forecasters import Reuse
from synccache.gates import Listed
from synccache.scopes import Modules, Segments

SCOPES = {"segments": Segments(), "modules": Modules()}
X, TEXT = Noise(1)(1, 4, 3, 4, 6), Noise(5)(1, 5, 16)


def listed(computed: set[int], scope: str) -> Method:
    return Method(Listed(frozenset(computed)), SCOPES[scope], Reuse())


# -- what a model shows of itself ----------------------------------------------------------------------------------


def shown(model: nn.Module) -> dict[str, Any]:
    """All that others go by when they look at a model."""
    modules = list(model.modules())
    return {
        "classes": [type(m) for m in modules],
        "names": [n for n, _ in model.named_modules()],
        "table": [{wan.WanTransformer3DModel: "model", nn.Linear: "linear"}.get(type(m)) for m in modules],
        "text": repr(model),
        "signatures": [inspect.signature(m.forward) for m in modules],
        "source": [inspect.getsource(type(m).forward) for m in modules if type(m).__module__.startswith("diffusers")],
        "forwards": ["forward" in vars(m) for m in modules],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in modules],
        "weights": [(n, id(p)) for n, p in model.named_parameters()],
        "state": list(model.state_dict()),
        "buffers": [n for n, _ in model.named_buffers()],
        "compiled": [m._compiled_call_impl for m in modules],
        "public": {n for n in dir(model) if not n.startswith("_")},
        "config": dict(model.config),
        "cached": (model.is_cache_enabled, model.is_gradient_checkpointing, model.dtype, model.device),
    }


@pytest.mark.parametrize("scope", SCOPES)
def test_what_a_model_shows_of_itself_stays_the_same(scope: str) -> None:
    model = wan.build(layers=3)
    before = shown(model)
    with synccache.cached(model, listed({0}, scope)):
        for timestep in (900.0, 800.0):
            with torch.no_grad():
                model(X, torch.tensor([timestep]), TEXT)
            assert shown(model) == before
    assert shown(model) == before


# -- guiders, which look blocks and attention processors up by class -----------------------------------------------

SOME = {"skip_layer_guidance_start": 0.1, "skip_layer_guidance_stop": 0.7}
GUIDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "blocks": lambda some: SkipLayerGuidance(3.0, skip_layer_config=LayerSkipConfig(**some), **SOME),
    "feed_forward": lambda some: SkipLayerGuidance(
        3.0, skip_layer_config=LayerSkipConfig(**some, skip_attention=False), **SOME
    ),
    "auto": lambda some: AutoGuidance(3.0, auto_guidance_config=LayerSkipConfig(**some)),
    "perturbed": lambda some: PerturbedAttentionGuidance(
        3.0, perturbed_guidance_stop=0.7,
        perturbed_guidance_config=LayerSkipConfig(
            **some, skip_attention=False, skip_attention_scores=True, skip_ff=False
        ),
    ),
}  # fmt: skip
MODELS = {"wan": ("blocks", lambda: wan.build(layers=4), wan.text), "qwen": ("transformer_blocks", build_qwen, qwen)}
# diffusers 0.42.1 knows no attention processor of Wan, and its SmoothedEnergyGuidance does nothing anywhere.
CASES = [("qwen", name) for name in GUIDERS] + [("wan", name) for name in ("blocks", "feed_forward", "auto")]


@dataclass
class Guided:
    """A model under a guider, run as the blocks of diffusers' modular pipelines run it."""

    kind: str
    name: str

    def __post_init__(self) -> None:
        self.fqn, build, inputs = MODELS[self.kind]
        self.transformer, self.inputs, other = build(), inputs(1), inputs(2)
        self.x = self.inputs.pop("hidden_states")
        self.texts = self.inputs.pop("encoder_hidden_states"), other["encoder_hidden_states"]
        self.scheduler = diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)

    def passes(self, guider: Any, x: Tensor, step: int, steps: int, timestep: Tensor) -> list[Tensor]:
        """The outputs of one step's passes, and what the guider makes of them."""
        guider.set_state(step=step, num_inference_steps=steps, timestep=timestep)
        batches = guider.prepare_inputs({"encoder_hidden_states": self.texts})
        for batch in batches:
            guider.prepare_models(self.transformer)
            with torch.no_grad():
                batch.noise_pred = self.transformer(
                    hidden_states=x, timestep=timestep[None], encoder_hidden_states=batch.encoder_hidden_states,
                    **self.inputs,
                )[0]  # fmt: skip
            guider.cleanup_models(self.transformer)
        return [batch.noise_pred for batch in batches] + [guider(batches)[0]]

    def guider(self) -> Any:
        return GUIDERS[self.name]({"indices": [1, 2], "fqn": self.fqn})

    def denoise(self, steps: int = 10) -> Tensor:
        guider, x = self.guider(), self.x
        self.scheduler.set_timesteps(steps)
        for step, timestep in enumerate(self.scheduler.timesteps):
            guided = self.passes(guider, x, step, steps, timestep)[-1]
            x = self.scheduler.step(guided, timestep, x, return_dict=False)[0]
        return x


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_guiders(kind: str, name: str, scope: str) -> None:
    """Each pass of a step, with blocks or modules left out by the guider in one of them, is filled in for itself."""
    pipe = Guided(kind, name)
    plain = pipe.denoise()
    with synccache.cached(pipe, listed(set(range(10)), scope)) as handle:
        assert torch.equal(pipe.denoise(), plain)
        assert "skipped" not in handle.trace.decisions()
    guider, timestep = pipe.guider(), torch.tensor(700.0)
    *expected, guided = pipe.passes(guider, pipe.x, 5, 10, timestep)
    assert len(expected) > 1 and not torch.equal(expected[0], expected[-1])
    with synccache.cached(pipe.transformer, listed({5}, scope)) as handle:
        for step in (5, 6):
            with handle.at(run=1, step=step, total=10):
                found = pipe.passes(guider, pipe.x, 5, 10, timestep)
            for a, b in zip(found, (*expected, guided), strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
        decisions = [r.decision for r in handle.trace.records if r.step == 6]
    unheard = scope == "modules" and name in ("blocks", "auto")  # in that pass some modules aren't called at all
    assert decisions == ["skipped"] * (len(expected) - 1) + ["computed" if unheard else "skipped"]
    assert torch.equal(pipe.denoise(), plain)


# -- diffusers' contexts and caches --------------------------------------------------------------------------------


def test_cache_context_is_heard_and_still_does_its_work() -> None:
    """The library's own hooks get the context that they read; the cache believes what it says."""
    model, seen = wan.build(layers=3), []

    class Listens(diffusers.hooks.ModelHook):
        _is_stateful = False

        def _set_context(self, module: nn.Module, context: Any) -> None:
            seen.append(context)

    registry = diffusers.hooks.HookRegistry.check_if_exists_or_initialize(model)
    registry.register_hook(Listens(), "listens")

    def run() -> list[Any]:
        seen.clear()
        for step, timestep in enumerate((900.0, 900.0, 880.0)):
            for name in ("cond", "uncond"):
                with torch.no_grad(), model.cache_context(name, step_index=step, num_inference_steps=12):
                    model(X, torch.tensor([timestep]), TEXT)
        return [getattr(context, "name", context) for context in seen]

    plain = run()
    with synccache.cached(model, listed({0, 1}, "segments")) as handle:
        assert run() == plain
        records = [(r.step, r.branch, r.decision) for r in handle.trace.records]
    assert records == [
        (step, name, "skipped" if step == 2 else "computed") for step in range(3) for name in ("cond", "uncond")
    ]
    assert run() == plain and "cache_context" not in vars(model)


CACHES = {
    "first block": lambda model: model.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.1)),
    "pyramid": lambda model: model.enable_cache(
        diffusers.PyramidAttentionBroadcastConfig(2, spatial_attention_timestep_skip_range=(100, 800),
                                                  current_timestep_callback=lambda: 500)
    ),
    "cache-dit": lambda model: setattr(model, "_is_cached", True),
}  # fmt: skip


@pytest.mark.parametrize("name", CACHES)
def test_another_cache_is_refused_before_and_while_attached(name: str) -> None:
    model = wan.build(layers=3)
    with synccache.cached(model, listed({0}, "segments")) as handle:
        CACHES[name](model)
        with pytest.raises(Conflict, match=r"disable_cache.*synccache\.remove"), torch.no_grad():
            model(X, torch.tensor([900.0]), TEXT)
        assert handle.bytes == 0
    with pytest.raises(Conflict, match="disable_cache"):
        synccache.apply(model, listed({0}, "segments"))
    assert not any("_call_impl" in vars(m) for m in model.modules())
