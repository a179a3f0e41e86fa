"""Attaching and removing: exact, idempotent, and after exceptions."""

import copy
import pickle

import pytest
import torch
from calls import cached, output

import synccache
from synccache import InputError, UnsupportedModel
from synccache.testing import (
    AddBlock,
    AddModel,
    Pipeline,
    SelfAttention,
    Video,
    WanModel_S2V,
    WanS2VAttentionBlock,
    s2v_inputs,
)


def snapshot(model):
    """Class, attributes and hooks of every module, by identity."""
    found = []
    for module in model.modules():
        hooks = {k: list(v) for k, v in vars(module).items() if k.endswith("_hooks") and v is not None}
        found.append((type(module), {k: id(v) for k, v in vars(module).items() if k != "calls"}, hooks))
    return found


def counted(call, calls):
    """``call``, noted in the list ``calls``."""
    return lambda *args, **kwargs: (calls.append(1), call(*args, **kwargs))[1]


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
    for method in ("synccache", "fora", "uncond-reuse"):
        handle = synccache.apply(model, method, steps=20)
        assert snapshot(model) != before
        run(model)
        handle.remove()
        assert snapshot(model) == before
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert list(model.state_dict()) == list(state)


def test_the_context_manager_removes_after_an_exception():
    model = Video()
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="mine"), synccache.cached(model, "interval"):
        raise RuntimeError("mine")
    assert snapshot(model) == before and "_call_impl" not in vars(model)


def test_nobody_can_tell_from_the_classes_that_it_is_there():
    """Tables keyed by a module's class work (diffusers' guiders look blocks up in one), and copies are plain ones."""
    model, names = Video(), {Video: "video", WanS2VAttentionBlock: "block", SelfAttention: "attention"}
    for method in ("synccache", "fora"):
        with synccache.cached(model, method, steps=20):
            run(model)
            assert [names[type(m)] for m in (model, model.blocks[0], model.blocks[0].self_attn)] == list(names.values())
            assert type(model).__call__ is torch.nn.Module.__call__ and model.forward.__func__ is Video.forward


def test_what_others_do_to_classes_and_around_the_hooks_works_and_survives():
    """A class change (as fully_shard makes one), a forward on the instance, and a stand-in of the same kind."""

    class Sharded(WanS2VAttentionBlock):
        seen = 0

        def forward(self, x, e):
            Sharded.seen += 1
            return super().forward(x, e)

    model, calls = Video(), []
    with cached(model, "interval", interval=2, warmup=0, steps=20) as handle:
        for block in model.blocks:
            block.__class__ = Sharded
        model.blocks[2]._call_impl = mine = counted(model.blocks[2]._call_impl, calls)
        run(model, 4)
        assert handle.trace.decisions() == ["computed", "skipped"] * 2
        assert Sharded.seen == 2 * 5 and len(calls) >= 2  # on steps that are computed at least
        heard = len(calls)
    assert {type(block) for block in model.blocks} == {Sharded} and model.blocks[2]._call_impl is mine
    plain = run(Video(), 2)
    assert all(torch.equal(a, b) for a, b in zip(run(model, 2), plain, strict=True))  # ours only passes on any more
    assert len(handle.trace) == 4 and len(calls) == heard + 2


def test_a_hook_put_on_another_stand_in_gives_it_back():
    model, calls = Video(), []
    model.blocks[0]._call_impl = mine = counted(model.blocks[0]._call_impl, calls)
    with synccache.cached(model, "none"):
        run(model, 1)
    assert calls == [1] and model.blocks[0]._call_impl is mine


def test_a_broken_call_leaves_nothing_behind():
    model = AddModel()
    x, level = torch.full((1, 2, 3), 20.0), torch.tensor(3.5)
    with torch.no_grad(), synccache.cached(model, "schedule", schedule=[0, 1]) as handle:
        model(x, torch.tensor([1000.0]), level)
        model.blocks[2].register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(x, torch.tensor([900.0]), level)
        model.blocks[2]._forward_pre_hooks.clear()
        assert handle.bytes == 0
        assert model(x, torch.tensor([800.0]), torch.tensor(4.0)).unique().tolist() == [44]
        assert handle.trace.records[-1].step == 0


def test_applying_twice_replaces_the_first():
    model = Video()
    first = synccache.apply(model, "interval")
    second = synccache.apply(model, "synccache", steps=20)
    assert not first.attached and second.attached
    run(model)
    assert len(first.trace) == 0 and len(second.trace) == 4
    synccache.remove(model)
    assert not second.attached and "_call_impl" not in vars(model)
    synccache.remove(model)


def test_a_refused_apply_leaves_the_first_in_place():
    model = Video()
    first = synccache.apply(model, "interval", steps=20)
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
        assert torch.equal(run(twin, 1)[0], run(model, 1)[0])
        assert len(handle.trace) == 2
    added = AddModel()
    with synccache.cached(added, "none") as handle:
        again = pickle.loads(pickle.dumps(added))
        output(again, 1000, 1)
        assert type(again) is AddModel and type(again.blocks[0]) is AddBlock and len(handle.trace) == 0
    with synccache.cached(again, "none") as handle, synccache.cached(twin, "none") as twins:
        output(again, 1000, 1), run(twin, 1)
        assert len(handle.trace) == len(twins.trace) == 1


def test_a_forward_replaced_on_the_instance_still_runs():
    """accelerate and group offloading replace ``forward`` on the instance, and put it back."""
    model, seen = Video(), []
    with cached(model, "interval", interval=2, warmup=0, steps=20):
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
        pipe(steps=1)
        assert len(handle.trace) == 2 and repr(handle) == "<synccache none on Video>"
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
