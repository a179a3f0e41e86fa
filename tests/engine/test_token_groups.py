"""Steps that compute some of the tokens, against the same arithmetic written down slowly."""

import copy
import re
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from models import seeded
from models.wan import build, build_vace

import synccache
from synccache import InputError, Method, UnsupportedModel
from synccache.core.groups import Groups, put_, take, to_tokens, to_video
from synccache.core.types import Action, Decision
from synccache.errors import Conflict
from synccache.forecasters import ByFrequency, Lagrange, Reuse
from synccache.gates import Interval
from synccache.gates.scheduled import Blind
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer
from synccache.scopes import Segments, Tokens
from synccache.testing import Pipeline, Video

pytestmark = pytest.mark.filterwarnings("ignore:This run has")
TINY = PortraitConfig(
    image_size=32, patch_size=8, overlap=2, dim=32, ffn_dim=48, heads=2, layers=4, inject_after=(0, 1, 3), frames=3
)
FULL = None
PLAN = (FULL, (0,), (0, 1), (), (1,), FULL, (2,), (0, 2), (0,))


@dataclass(frozen=True)
class Planned:
    """Computes in full where ``plan`` has None, else the tokens of the groups that it lists."""

    plan: tuple
    groups: Groups
    skips = names_tokens = True
    measure = Blind()

    def init(self, run):
        return None

    def decide(self, state, step, seen):
        active = self.plan[step.index]
        if active is None:
            return Decision(Action.COMPUTE, "planned"), None
        return Decision(Action.FILL, "planned", groups=self.groups, active=active), None

    def record(self, state, step, decision, seen):
        return None


def groups_of(batch, tokens, sizes):
    random = torch.Generator().manual_seed(3)
    return Groups(torch.stack([torch.randperm(tokens, generator=random) for _ in range(batch)]), sizes)


# -- the slow reference ----------------------------------------------------------------------------------------------


def turned(x, table):
    """Rotary positions, pair by pair as complex numbers."""
    cos, sin = table
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    angle = torch.complex(cos[..., 0::2].to(x), sin[..., 1::2].to(x))
    return torch.view_as_real(pairs * angle).flatten(-2)


class Slow:
    """Computes all tokens of every block, and keeps of that only what belongs to tokens that are active.

    ``weights``: what the newest and the one before count at a time, for a token with such times.
    """

    def __init__(self, model, regions, weights):
        self.model, self.weights = copy.deepcopy(model), weights
        self.active, self.time, self.branch = None, 0, ""
        self.held, self.times = {}, {}
        self.starts = {r.first: r for r in regions}
        self.region_of = {i: r for r in regions for i in r.members}
        for index, block in enumerate(self.model.blocks):
            block.forward = lambda *a, index=index, block=block: self.block(index, block, *a)

    def newest(self, name, value, active):
        """Note what is computed now of active tokens; what each token has at this time, by its newest values."""
        key = (self.branch, name)
        wide = active.reshape(*active.shape, *[1] * (value.ndim - 2))
        if key not in self.held:
            self.held[key] = [value, value]
            self.times[key] = [torch.full(active.shape, self.time), torch.full(active.shape, self.time - 1)]
        else:
            (a, b), (s, t) = self.held[key], self.times[key]
            self.held[key] = [torch.where(wide, value, a), torch.where(wide, a, b)]
            self.times[key] = [torch.where(active, self.time, s), torch.where(active, s, t)]
        return torch.where(wide, value, self.at_hand(name))

    def at_hand(self, name):
        (a, b), (s, t) = self.held[self.branch, name], self.times[self.branch, name]
        first, second = self.weights(s.double(), t.double(), self.time)
        first, second = (w.reshape(*w.shape, *[1] * (a.ndim - 2)).to(a) for w in (first, second))
        return first * a + second * b

    def block(self, index, block, x, context, temb, rotary):
        active = self.rows(x)
        wide = active[..., None]
        parts = block.scale_shift_table + temb if temb.ndim == 3 else block.scale_shift_table[None] + temb
        shift, scale, gate, c_shift, c_scale, c_gate = parts.unbind(-2)
        if temb.ndim == 3:
            shift, scale, gate, c_shift, c_scale, c_gate = (
                p[:, None] for p in (shift, scale, gate, c_shift, c_scale, c_gate)
            )
        attn = block.attn1
        normed = F.layer_norm(x, x.shape[-1:], eps=block.norm1.eps) * (1 + scale) + shift
        q, k, v = attn.norm_q(attn.to_q(normed)), attn.norm_k(attn.to_k(normed)), attn.to_v(normed)
        q, k, v = (y.unflatten(-1, (attn.heads, -1)) for y in (q, k, v))
        q, k = turned(q, rotary), turned(k, rotary)
        k, v = self.newest(f"keys {index}", k, active), self.newest(f"values {index}", v, active)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
        mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).flatten(2)
        out = x + attn.to_out[0](mixed) * gate
        out = out + block.attn2(block.norm2(out), context)
        normed = F.layer_norm(out, x.shape[-1:], eps=block.norm3.eps) * (1 + c_scale) + c_shift
        out = out + block.ffn(normed) * c_gate
        region = self.region_of[index]
        if index == region.first:
            self.sum = torch.zeros_like(x)
        self.sum = self.sum + (out - x)
        rest = x if index != region.first else None
        if rest is None:
            known = (self.branch, region.id) in self.held
            rest = x + self.at_hand(region.id) if known else x
        if index == region.last:
            self.newest(region.id, self.sum, active)
        return torch.where(wide, out, rest)

    def rows(self, x):
        """Which rows of a stream are active: its first are the video's, the others go with the last group."""
        rest = x.shape[1] - self.active.shape[1]
        return torch.cat([self.active, self.others.expand(len(self.active), rest)], dim=1)

    def __call__(self, groups, active, grid, time, branch, *args, **kwargs):
        count = len(groups.sizes)
        active = tuple(range(count)) if active is None else active
        self.active = torch.zeros_like(groups.order, dtype=torch.bool)
        begin = 0
        for g, size in enumerate(groups.sizes):
            self.active.scatter_(1, groups.order[:, begin : begin + size], g in active)
            begin += size
        self.others = torch.tensor([[count - 1 in active]])
        self.time, self.branch = time, branch
        out = self.model(*args, **kwargs)
        out = out if isinstance(out, torch.Tensor) else out[0]
        return to_video(self.newest("output", to_tokens(out, grid), self.active), grid, out.shape)


def held(newest, before, time):
    return torch.ones_like(newest), torch.zeros_like(newest)


def on_a_line(newest, before, time):
    way = (time - newest) / (newest - before)
    return 1 + way, -way


# -- the models ------------------------------------------------------------------------------------------------------


def portrait(batch, motion):
    model = seeded(lambda: PortraitTransformer(TINY))
    random = torch.Generator().manual_seed(1)
    shape = (batch, 3, 3, 32, 32)
    fixed = {"reference": torch.randn(batch, 3, 32, 32, generator=random),
             "motion": torch.randn(batch, 6, 32, 32, generator=random) if motion else None}  # fmt: skip

    def inputs(step, branch):
        noise = torch.Generator().manual_seed(10 * step + 1)
        loud = float(branch == "cond")
        return {
            "hidden_states": torch.randn(shape, generator=noise), "timestep": torch.full((batch,), 900.0 - 50 * step),
            "audio": loud * torch.randn(batch, 3, 5, 65, generator=noise), **fixed,
        }  # fmt: skip

    return model, inputs, (3, 4, 4)


def wan(batch, per_token):
    model = build(layers=3)
    text = torch.randn(batch, 5, 16, generator=torch.Generator().manual_seed(1))

    def inputs(step, branch):
        noise = torch.Generator().manual_seed(10 * step + 1)
        time = torch.full((batch,), 900.0 - 50 * step)
        if per_token:  # the first frame's are zero, as image-to-video has it
            time = time[:, None] * torch.cat([torch.zeros(6), torch.ones(12)])
        return {
            "hidden_states": torch.randn(batch, 4, 3, 4, 6, generator=noise), "timestep": time,
            "encoder_hidden_states": text if branch == "cond" else 0 * text, "return_dict": False,
        }  # fmt: skip

    return model, inputs, (3, 2, 3)


MODELS = {
    "portrait": lambda batch: portrait(batch, motion=False),
    "portrait, second clip": lambda batch: portrait(batch, motion=True),
    "wan": lambda batch: wan(batch, per_token=False),
    "wan, a timestep for each token": lambda batch: wan(batch, per_token=True),
}
CASES = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def first(out):
    return out if isinstance(out, torch.Tensor) else out[0]


def sizes_for(tokens):
    return (tokens // 3, tokens // 2, tokens - tokens // 3 - tokens // 2)


def method(plan, groups, forecaster=None, limit=None):
    return Method(Planned(plan, groups), Tokens(Segments(), limit), forecaster or Reuse())


@torch.no_grad()
def run(handle, model, inputs, plan, branches=("cond", "uncond")):
    """All outputs of a run, by (step, branch)."""
    outs = {}
    for step in range(len(plan)):
        for branch in branches:
            with handle.at(step=step, total=len(plan), branch=branch):
                outs[step, branch] = first(model(**inputs(step, branch))).clone()
    return outs


@pytest.mark.parametrize("rule", ["held", "line"])
@pytest.mark.parametrize("batch", [1, 2])
@CASES
@torch.no_grad()
def test_each_token_attends_to_the_newest_keys_and_values_and_moves_by_its_last_velocity(make, batch, rule):
    """Batches of two have groups of their own for each sample; two branches, keys and values of their own each."""
    model, inputs, grid = make(batch)
    tokens = grid[0] * grid[1] * grid[2]
    groups = groups_of(batch, tokens, sizes_for(tokens))
    plan = PLAN if rule == "held" else (FULL, *PLAN)  # two anchors first
    forecaster, weights = (Reuse(), held) if rule == "held" else (Lagrange(1), on_a_line)
    with synccache.cached(model, method(plan, groups, forecaster)) as handle:
        outs = run(handle, model, inputs, plan)
        slow = Slow(model, handle.regions, weights)  # copies have no hooks
        total = tokens + 16 * (inputs(0, "cond").get("motion") is not None)
        for record in handle.trace:
            active = plan[record.step]
            assert record.decision == ("computed" if active is None else "skipped")
            rows = total if active is None else sum(groups.sizes[g] + (total - tokens) * (g == 2) for g in active)
            assert record.share == pytest.approx(rows / total)
    for (step, branch), out in outs.items():
        true = slow(groups, plan[step], grid, step, branch, **inputs(step, branch))
        torch.testing.assert_close(out, true, rtol=2e-4, atol=2e-4, msg=lambda m, s=step, b=branch: f"{s} {b}: {m}")


@CASES
def test_a_full_step_is_the_untouched_model_bit_for_bit(make):
    model, inputs, grid = make(2)
    groups = groups_of(2, grid[0] * grid[1] * grid[2], sizes_for(grid[0] * grid[1] * grid[2]))
    plan = (FULL,) * 3
    with synccache.cached(model, method(plan, groups)) as handle:
        outs = run(handle, model, inputs, plan)
    with torch.no_grad():
        assert all(torch.equal(out, first(model(**inputs(*at)))) for at, out in outs.items())


@CASES
def test_all_groups_together_are_the_untouched_model_to_rounding(make):
    model, inputs, grid = make(2)
    groups = groups_of(2, grid[0] * grid[1] * grid[2], sizes_for(grid[0] * grid[1] * grid[2]))
    plan = (FULL, (0, 1, 2), (2, 1, 0))
    with synccache.cached(model, method(plan, groups)) as handle:
        outs = run(handle, model, inputs, plan)
        assert handle.trace.decisions() == ["computed", "skipped", "skipped"] and handle.trace.cost() == 1
    for at, out in outs.items():
        with torch.no_grad():
            torch.testing.assert_close(out, first(model(**inputs(*at))), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_held_tokens_land_where_one_euler_move_puts_them():
    model, inputs, grid = wan(1, per_token=False)
    groups = groups_of(1, 18, (6, 12))
    plan, sigmas = (FULL, (0,), (0,), (0,), FULL), torch.tensor([0.9, 0.85, 0.6, 0.5, 0.3, 0.2])
    x = inputs(0, "cond")["hidden_states"]
    start, velocities = x.clone(), []
    with synccache.cached(model, method(plan, groups)) as handle:
        for step in range(len(plan)):
            if step == 4:
                moved = x
            with handle.at(step=step, total=len(plan)):
                v = model(x, sigmas[step : step + 1] * 1000, inputs(0, "cond")["encoder_hidden_states"],
                          return_dict=False)[0]  # fmt: skip
            velocities.append(v)
            x = x + (sigmas[step + 1] - sigmas[step]) * v
    calm = groups.tokens((1,))
    jump = start + (sigmas[4] - sigmas[0]) * velocities[0]
    at = lambda video: take(to_tokens(video, grid), calm, 1)  # noqa: E731
    torch.testing.assert_close(at(moved), at(jump), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(moved, jump, rtol=1e-3, atol=1e-3)


@CASES
def test_bytes_are_counted_and_freed(make):
    model, inputs, grid = make(2)
    tokens = grid[0] * grid[1] * grid[2]
    groups, plan, sizes = groups_of(2, tokens, sizes_for(tokens)), PLAN[:4], []
    with synccache.cached(model, method(plan, groups)) as handle:
        handle.on_step = lambda record: sizes.append(record.bytes)
        outs = run(handle, model, inputs, plan)
        assert handle.bytes == 0  # the run is over
        regions = len(handle.regions)
    video, blocks = outs[0, "cond"], model.blocks
    stream = 2 * 4 * (tokens + 16 * (inputs(0, "cond").get("motion") is not None)) * blocks[0].attn1.inner_dim
    assert sizes[1:-1] == [2 * (2 * len(blocks) * stream + regions * stream + video.nbytes)] * (len(sizes) - 2)


@pytest.mark.parametrize("given", [{"storage_dtype": torch.bfloat16}, {"storage_dtype": torch.float8_e4m3fn}])
def test_stored_in_fewer_bits_it_is_near(given):
    model, inputs, _ = wan(2, per_token=False)
    groups, plan, outs, peaks = groups_of(2, 18, (4, 6, 8)), PLAN[:4], [], []
    for more in ({}, given):
        with synccache.cached(model, method(plan, groups), **more) as handle:
            outs.append(run(handle, model, inputs, plan))
            peaks.append(handle.trace.bytes_peak)
    size = given["storage_dtype"].itemsize
    assert peaks[1] * 4 == peaks[0] * size
    for at, out in outs[0].items():
        off = (out - outs[1][at]).norm() / out.norm()
        assert off < 0.2 / 16 ** (size - 1)


# -- what is refused -------------------------------------------------------------------------------------------------

GROUPS = groups_of(1, 18, (6, 12))


def test_what_does_not_fit_is_refused_before_it_is_kept():
    model, inputs, _ = wan(1, per_token=False)
    each = 2 * 3 * 18 * 24 * 4
    plan = PLAN[:2]
    for limit, calls in ((each - 1, 0), (2 * each - 1, 1)):
        with synccache.cached(model, method(plan, GROUPS, limit=limit)) as handle:
            with pytest.raises(InputError, match="limit="):
                run(handle, model, inputs, plan)
            assert len(handle.trace) == calls and handle.bytes == 0


@pytest.mark.parametrize("target", [lambda: Pipeline(Video()), build_vace])
def test_models_that_nothing_is_known_of_are_refused(target):
    with (
        pytest.raises(UnsupportedModel, match="lets some tokens be computed"),
        synccache.cached(target(), method(PLAN, GROUPS)),
    ):
        pass


def test_attention_that_cannot_be_seen_is_refused():
    model, inputs, _ = wan(1, per_token=False)

    class Kernel:
        def __call__(self, attn, hidden_states, *args, **kwargs):
            return attn.to_out[0](attn.to_v(hidden_states))

    model.blocks[0].attn1.processor = model.blocks[0].attn2.processor = Kernel()
    with (
        synccache.cached(model, method(PLAN, GROUPS)) as handle,
        pytest.raises(UnsupportedModel, match=re.escape("block 0 (WanTransformerBlock) attends by a kernel")),
    ):
        run(handle, model, inputs, PLAN)


def test_outputs_that_are_no_tensors_are_refused():
    model, inputs, _ = wan(1, per_token=False)
    with (
        synccache.cached(model, method(PLAN, GROUPS)) as handle,
        pytest.raises(UnsupportedModel, match="return_dict=False"),
        torch.no_grad(),
        handle.at(step=0, total=9),
    ):
        model(**{**inputs(0, "cond"), "return_dict": True})


def test_compiled_blocks_are_refused():
    model, _, _ = wan(1, per_token=False)
    model.blocks[1].compile(backend="eager")
    with pytest.raises(Conflict, match="compiled WanTransformerBlock"), synccache.cached(model, method(PLAN, GROUPS)):
        pass


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"scope": Segments()}, "gate of"),
        ({"gate": Interval(2)}, "scope of"),
        ({"forecaster": ByFrequency(Reuse(), Lagrange(1))}, "by the times alone"),
        ({"guidance": Reuse()}, "by the times alone"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(parts, said):
    model, _, _ = wan(1, per_token=False)
    whole = {"gate": Planned(PLAN, GROUPS), "scope": Tokens(Segments()), "forecaster": Reuse(), **parts}
    with pytest.raises(InputError, match=said), synccache.cached(model, Method(**whole)):
        pass


# -- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2])
def test_rows_are_taken_and_put_back(batch):
    index = torch.tensor([[1, 3], [0, 2]])[:batch]
    for shape in ((2, 4, 3), (2, 5, 4, 3)):
        x = torch.randn(shape)
        rows = take(x, index)
        for sample in range(2):
            assert torch.equal(rows[sample], x[sample][..., index[sample % batch], :])
        changed = put_(x.clone(), index, rows + 1) - x
        assert torch.equal(changed.flatten(0, -3).amax(0).sum(-1) > 0, torch.ones(4) > 0) or batch == 1
        torch.testing.assert_close(changed.sum(), torch.tensor(float(rows.numel())))


def test_tokens_of_a_video_and_back():
    video = torch.arange(2 * 3 * 2 * 4 * 6.0).reshape(2, 3, 2, 4, 6)
    tokens = to_tokens(video, (2, 2, 3))
    assert torch.equal(tokens[1, 7].reshape(3, 1, 2, 2), video[1, :, 1:2, 0:2, 2:4])
    assert torch.equal(to_video(tokens, (2, 2, 3), video.shape), video)
    assert to_tokens(video, (2, 3, 3)) is None
