"""Weights kept in fewer bits than they are used with: layer-wise casting, and quantised linear layers."""

import pytest
import torch
import torch.nn.functional as F
from tiny import COMPUTED, LIVE, STEPS, cached, count_calls, denoise, tiny_wan
from torch import Tensor, nn

ANCHOR = 32 * 16  # values of one anchor: tokens x width


def layers(model):
    return [b.ffn.net[2] for b in model.blocks]


def dtypes_stored(handle) -> set[torch.dtype]:
    """Of the values that are stored from now on."""
    found: set[torch.dtype] = set()
    handle.on_store = lambda stored: found.add(stored.value.dtype) or True
    return found


def cast(model, compute: torch.dtype = torch.float32) -> None:
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=compute)


@pytest.mark.parametrize("first", ["cache", "casting"])
def test_layerwise_casting(first):
    reference, model = tiny_wan(), tiny_wan()
    cast(reference)
    plain = denoise(reference)
    with cached(reference):
        expected = denoise(reference)
    if first == "casting":
        cast(model)
    with cached(model) as handle:
        if first == "cache":
            cast(model)
        counts, dtypes = count_calls(layers(model)), dtypes_stored(handle)
        assert torch.equal(denoise(model), expected)
        assert counts == LIVE
        assert {x.weight.dtype for x in layers(model)} == {torch.float8_e4m3fn}
        assert dtypes == {torch.float32}
        assert handle.trace.bytes_peak == 4 * ANCHOR
    assert torch.equal(denoise(model), plain)
    assert all("layerwise_casting" in x._diffusers_hook.hooks for x in layers(model))


def test_casting_that_never_skips_is_bit_equal():
    model = tiny_wan()
    cast(model)
    plain = denoise(model)
    with cached(model, range(STEPS)):
        assert torch.equal(denoise(model), plain)


class Int8Linear(nn.Module):
    """A linear layer whose weight [out, in] is kept as int8 with one scale for each output."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.register_buffer("weight", (linear.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype) * self.scale.to(x.dtype), self.bias.to(x.dtype))


def quantise(model) -> None:
    for block in model.blocks:
        block.ffn.net[2] = Int8Linear(block.ffn.net[2])
        block.attn1.to_q = Int8Linear(block.attn1.to_q)


@pytest.mark.parametrize("first", ["cache", "quantising"])
def test_quantised_layers(first):
    """The weights aren't floating-point, so nothing may take the model's dtype from them."""
    reference, model = tiny_wan(), tiny_wan()
    quantise(reference)
    plain = denoise(reference)
    with cached(reference):
        expected = denoise(reference)
    if first == "quantising":
        quantise(model)
    with cached(model) as handle:
        if first == "cache":
            quantise(model)
        counts, dtypes = count_calls(layers(model)), dtypes_stored(handle)
        out = denoise(model)
        assert torch.equal(out, expected) and out.dtype is torch.float32
        assert counts == LIVE and handle.trace.computed() == len(COMPUTED)
        assert dtypes == {torch.float32}
        assert handle.trace.bytes_peak == 4 * ANCHOR
    assert torch.equal(denoise(model), plain)
    assert {x.weight.dtype for x in layers(model)} == {torch.int8}
