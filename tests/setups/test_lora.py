"""LoRA through PEFT: adapters may come and go before, after and between runs."""

import pytest
import torch
from peft import LoraConfig
from tiny import COMPUTED, LIVE, STEPS, cached, count_calls, denoise, tiny_wan

import synccache

pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # PEFT's, at a second adapter


def add(model, name: str, seed: int) -> None:
    torch.manual_seed(seed)
    model.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False), adapter_name=name)


def adapted():
    """A model with the adapters ``warm`` and ``cold``; ``cold`` acts."""
    model = tiny_wan()
    add(model, "warm", 1)
    add(model, "cold", 2)
    model.set_adapter("cold")
    return model


def test_adapters_before_and_after_attaching_are_the_same():
    before, after = tiny_wan(), tiny_wan()
    without = denoise(before)
    add(before, "warm", 1)
    plain = denoise(before)
    with cached(before), cached(after) as handle:
        add(after, "warm", 1)
        out = denoise(after)
        assert torch.equal(out, denoise(before))
        assert handle.trace.skipped() == STEPS - len(COMPUTED)
    assert not torch.equal(out, plain)
    assert torch.equal(denoise(after), plain)
    after.delete_adapters("warm")
    assert torch.equal(denoise(after), without)


def test_never_skipping_is_bit_equal():
    model = adapted()
    plain = denoise(model)
    with cached(model, range(STEPS)):
        assert torch.equal(denoise(model), plain)


def test_a_skipped_block_runs_no_adapter():
    model = adapted()
    with cached(model):
        counts = count_calls(b.attn1.to_q.lora_A["cold"] for b in model.blocks)
        denoise(model)
    assert counts == LIVE


CHANGES = {
    "set": lambda model: model.set_adapter("warm"),
    "both": lambda model: model.set_adapter(["warm", "cold"]),
    "disable": lambda model: model.disable_adapters(),
    "fuse": lambda model: model.fuse_lora(),
    "delete": lambda model: model.delete_adapters(["warm", "cold"]),
}


def extrapolating(model):
    """Two anchors are used, so that one left over from another run would show."""
    return cached(model, range(0, STEPS, 2), forecaster=synccache.forecasters.Lagrange(1))


@pytest.mark.parametrize("stop", [None, 3])
@pytest.mark.parametrize("change", list(CHANGES))
def test_a_change_between_runs_leaves_nothing_stale(change, stop):
    """Also where the run before it was broken off."""
    fresh, model = adapted(), adapted()
    CHANGES[change](fresh)
    with extrapolating(fresh):
        expected = denoise(fresh)
    with extrapolating(model) as handle:
        before = denoise(model, stop=stop)
        CHANGES[change](model)
        out = denoise(model)
        assert torch.equal(out, expected) and not torch.equal(out, before)
        assert [r.decision for r in handle.trace.records][-STEPS:] == ["computed", "skipped"] * (STEPS // 2)
