"""What a method can be attached to."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import synccache
from synccache import InputError
from synccache.api import transformers_of
from synccache.handle import handle_of
from synccache.testing import Pipeline, Video


class Serving(nn.Module):
    """A serving engine's pipeline: a module that holds the transformer, and has no forward."""

    def __init__(self, *models):
        super().__init__()
        for name, model in zip(("transformer", "transformer_2"), models, strict=False):
            setattr(self, name, model)


class Callable(Serving):
    """The same with a forward of its own."""

    def forward(self, request):
        return self.transformer(request.x, request.t)


class Outer(nn.Module):
    """A transformer that is called with a timestep and whose inner ``.transformer`` isn't."""

    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

        def forward(self, x):
            for layer in self.layers:
                x = x + layer(x)
            return x

    def __init__(self):
        super().__init__()
        self.transformer = self.Inner()

    def forward(self, x, t):
        return self.transformer(x * t)


class Listed(nn.Module):
    """A transformer that calls its list of blocks ``transformer``."""

    def __init__(self):
        super().__init__()
        self.transformer = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x, timestep):
        for layer in self.transformer:
            x = x + layer(x)
        return x


def test_a_transformer_is_itself():
    for model in (Video(), Outer(), Listed()):
        assert transformers_of(model) == [model]


def test_a_pipeline_has_one_or_two():
    one, two = Video(), Video()
    for target in (Pipeline(one), SimpleNamespace(transformer=one), Serving(one), Callable(one)):
        assert transformers_of(target) == [one]
    for target in (Pipeline(one, two), Serving(one, two), Callable(one, two)):
        assert transformers_of(target) == [one, two]
    wan = SimpleNamespace(low_noise_model=one, high_noise_model=two, text_encoder=nn.Linear(2, 2))
    assert transformers_of(wan) == [two, one]  # in the order in which a run calls them
    assert transformers_of(SimpleNamespace(noise_model=one)) == [one]
    assert transformers_of(SimpleNamespace(transformer=one, transformer_2=one)) == [one]
    assert transformers_of(SimpleNamespace(transformer=one, transformer_2=None)) == [one]


def test_components_that_are_no_attributes():
    one, two = Video(), Video()
    pipe = SimpleNamespace(components={"vae": nn.Linear(2, 2), "transformer": one, "transformer_2": two})
    assert transformers_of(pipe) == [one, two]


def test_a_modular_pipeline_of_diffusers():
    modular = pytest.importorskip("diffusers.modular_pipelines")
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.modular_pipelines import ComponentSpec

    class Blocks(modular.ModularPipelineBlocks):
        model_name = "video"

        @property
        def expected_components(self):
            return [
                ComponentSpec("transformer", Video),
                ComponentSpec("scheduler", FlowMatchEulerDiscreteScheduler),
            ]

        def __call__(self, components, state):
            return components, state

    pipe, model = Blocks().init_pipeline(), Video()
    with pytest.raises(InputError, match=r"ModularPipeline\.transformer is None.*load_components"):
        synccache.apply(pipe)
    pipe.update_components(transformer=model, scheduler=FlowMatchEulerDiscreteScheduler())
    assert transformers_of(pipe) == [model]
    with synccache.cached(pipe, "interval") as handle:
        assert handle_of(model) is handle
    assert handle_of(model) is None


@pytest.mark.parametrize("kind", [Serving, Callable])
def test_a_pipeline_that_is_a_module_is_cached(kind):
    model = Video()
    target, x = kind(model), torch.randn(1, 4, 2, 4, 4)
    target.scheduler = SimpleNamespace(timesteps=torch.linspace(1000, 100, 10))
    with torch.no_grad(), synccache.cached(target, "interval", interval=2, warmup=0) as handle:
        for t in target.scheduler.timesteps:
            target.transformer(x * (t / 1000), t[None], torch.ones(1, 8))
        assert handle.trace.skipped() == 4
    assert synccache.apply(target) is handle_of(model)
    synccache.remove(target)
    assert handle_of(model) is None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (3, "int is neither an nn.Module nor a pipeline with a .transformer"),
        (SimpleNamespace(vae=nn.Linear(2, 2)), "SimpleNamespace is neither"),
        (SimpleNamespace(transformer=None), r"\.transformer is None\. Load it first"),
        (SimpleNamespace(transformer="wan"), r"\.transformer is a str and can't be called"),
        (nn.Module(), "Module is neither"),
        (Video, "Video is a class. Pass an object of it"),
        (None, "NoneType is neither"),
    ],
)
def test_anything_else_is_refused(target, message):
    with pytest.raises(InputError, match=message):
        synccache.apply(target)
