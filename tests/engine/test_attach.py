"""Attaching and removing: exact, idempotent, and after exceptions."""

import copy
import pickle

import pytest
import torch

import synccache
from synccache import Conflict, InputError, UnsupportedModel
from synccache.testing import AddBlock, AddModel, Pipeline, Video, WanModel_S2V, s2v_inputs


def snapshot(model):
    return [(type(m), dict(m.__dict__)) for m in model.modules()]


def run(model, steps=4):
    with torch.no_grad():
        return [
            model(torch.ones(1, 4, 2, 4, 4), torch.tensor([t]), torch.ones(1, 8))
            for t in torch.linspace(1000, 100, steps).tolist()
        ]


def test_remove_restores_every_module_exactly():
    model = Video()
    before = snapshot(model)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    handle = synccache.apply(model, "synccache")
    assert type(model) is not before[0][0] and isinstance(model, Video)
    assert type(model).__name__ == "Video" and type(model.blocks[0]).__qualname__ == "WanS2VAttentionBlock"
    run(model)
    handle.remove()
    assert [t for t, _ in snapshot(model)] == [t for t, _ in before]
    assert [set(d) for _, d in snapshot(model)] == [set(d) for _, d in before]
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert list(model.state_dict()) == list(state)


def test_the_context_manager_removes_after_an_exception():
    model = Video()
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="mine"), synccache.cached(model, "interval"):
        raise RuntimeError("mine")
    assert [t for t, _ in snapshot(model)] == [t for t, _ in before]
    assert "_synccache" not in model.__dict__


def test_a_broken_call_leaves_nothing_behind():
    model = AddModel()
    x, level = torch.full((1, 2, 3), 20.0), torch.tensor(3.5)
    with torch.no_grad(), synccache.cached(model, "schedule", schedule=[0, 1]) as handle:
        model(x, torch.tensor([1000.0]), level)
        model.blocks[2].register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(x, torch.tensor([900.0]), level)
        model.blocks[2]._forward_pre_hooks.clear()
        assert handle.bytes == 0 and handle.engine.call is None
        assert model(x, torch.tensor([800.0]), torch.tensor(4.0)).unique().tolist() == [44]
        assert handle.trace.records[-1].step == 0


def test_applying_twice_replaces_the_first():
    model = Video()
    first = synccache.apply(model, "interval")
    second = synccache.apply(model, "synccache")
    assert not first.attached and second.attached
    run(model)
    assert len(first.trace) == 0 and len(second.trace) == 4
    synccache.remove(model)
    assert type(model) is Video
    synccache.remove(model)


def test_a_refused_apply_leaves_the_first_in_place():
    model = Video()
    first = synccache.apply(model, "interval")
    with pytest.raises(InputError):
        synccache.apply(model, "interval", interval=0)
    run(model)
    assert first.attached and len(first.trace) == 4
    first.remove()


def test_hooks_and_copies_survive():
    model, seen = Video(), []
    model.blocks[1].register_forward_hook(lambda *_: seen.append("block"))
    model.register_forward_pre_hook(lambda *_: seen.append("model"))
    with synccache.cached(model, "none") as handle:
        run(model, 1)
        assert seen == ["model", "block"]
        twin = copy.deepcopy(model)
        assert type(twin) is Video and type(twin.blocks[0]) is not type(model.blocks[0])
        assert torch.equal(run(twin, 1)[0], run(model, 1)[0])
        assert len(handle.trace) == 2
    again = pickle.loads(pickle.dumps(synccache.apply(AddModel(), "none").engine.models[0]))
    assert type(again) is AddModel and type(again.blocks[0]) is AddBlock


def test_a_forward_replaced_on_the_instance_still_runs():
    """accelerate and group offloading replace ``forward`` on the instance, and put it back."""
    model, seen = Video(), []
    with synccache.cached(model, "interval", interval=2, warmup=0):
        block = model.blocks[1]
        inner = block.forward
        block.forward = lambda *a, **k: (seen.append(1), inner(*a, **k))[1]
        run(model, 4)
        del block.forward
        run(model, 2)
    assert len(seen) == 2


def test_pipelines_modules_and_nonsense():
    pipe = Pipeline(Video())
    with synccache.cached(pipe, "none") as handle:
        assert handle.engine.models == [pipe.transformer]
    with pytest.raises(InputError, match=r"int is neither"):
        synccache.apply(3)
    with pytest.raises(UnsupportedModel, match=r"anatomy=Anatomy"):
        synccache.apply(torch.nn.Linear(2, 2))

    class NoTimestep(Video):
        def forward(self, hidden_states, when):
            return hidden_states

    with pytest.raises(UnsupportedModel, match=r"forward\(hidden_states, when\).*timestep"):
        synccache.apply(NoTimestep())
    with synccache.cached(NoTimestep(), "none", anatomy=synccache.Anatomy("x", (), timestep="when")):
        pass


@pytest.mark.parametrize(
    ("mark", "found"),
    [
        (lambda m: setattr(m, "_cache_config", object()), "disable_cache"),
        (lambda m: setattr(m, "_is_cached", True), "_is_cached"),
        (lambda m: setattr(m, "enable_teacache", True), "enable_teacache"),
        (lambda m: [setattr(m, n, 1) for n in ("cnt", "num_steps", "rel_l1_thresh")], "TeaCache"),
        (
            lambda m: setattr(m.blocks[0], "_diffusers_hook", type("R", (), {"hooks": {"mag_cache_block_hook": 1}})()),
            "mag",
        ),
        (lambda m: setattr(m, "_compiled_call_impl", m.forward), "compile_repeated_blocks"),
    ],
)  # fmt: skip
def test_another_cache_is_refused(mark, found):
    model = Video()
    mark(model)
    with pytest.raises(Conflict, match=found):
        synccache.apply(model)
    assert type(model) is Video


def test_a_switch_that_is_off_is_no_conflict():
    model = Video()
    model.enable_teacache = False
    synccache.apply(model, "none").remove()


def test_diffusers_cache_is_refused_while_ours_is_on():
    diffusers = pytest.importorskip("diffusers")
    model = diffusers.WanTransformer3DModel(
        num_attention_heads=1, attention_head_dim=8, in_channels=4, out_channels=4, text_dim=8, freq_dim=8, ffn_dim=8,
        num_layers=2,
    )  # fmt: skip
    with synccache.cached(model, "none"), pytest.raises(Conflict, match=r"synccache\.remove"):
        model.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.1))
    model.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(Conflict, match="FirstBlockCacheConfig"):
        synccache.apply(model)
    model.disable_cache()
    synccache.apply(model, "none").remove()


def test_a_gradient_being_recorded_means_computing():
    model = AddModel()
    with synccache.cached(model, "interval", warmup=0) as handle, pytest.warns(synccache.Notice, match="no_grad"):
        for t in (1000.0, 900.0, 800.0):
            model(torch.ones(1, 4, 2), torch.tensor([t]), torch.tensor(2.0)).sum().backward()
        assert len(handle.trace) == 0 and model.blocks[1].calls == 3
        assert float(model.blocks[1].weight.grad) == 3 * 2 * 8


def test_wan_s2v_is_known_by_name_and_arguments_may_be_positional():
    model, inputs = WanModel_S2V().eval(), s2v_inputs()
    with torch.no_grad(), synccache.cached(model, "none") as handle:
        model(inputs.x, torch.tensor([7.0]), inputs.context, None, inputs.audio_input)
        assert handle.anatomy.name == "wan-s2v"
        assert handle.trace.records[0].timestep == 7
