"""Another cache on the same model is refused, whoever came first."""

import pytest
import torch

import synccache
from synccache import Conflict
from synccache.testing import Video


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
    assert not any("_call_impl" in vars(m) for m in model.modules())


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
    x, text = torch.ones(1, 4, 1, 4, 4), torch.ones(1, 3, 8)
    with torch.no_grad(), synccache.cached(model, "none") as handle:
        model(x, torch.tensor([900.0]), text)
        model.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.1))
        with pytest.raises(Conflict, match=r"FirstBlockCacheConfig was enabled on it\. .*synccache\.remove"):
            model(x, torch.tensor([800.0]), text)
        model.disable_cache()
        model(x, torch.tensor([800.0]), text)
        assert len(handle.trace) == 2
    model.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(Conflict, match="FirstBlockCacheConfig"):
        synccache.apply(model)
    model.disable_cache()
    synccache.apply(model, "none").remove()
