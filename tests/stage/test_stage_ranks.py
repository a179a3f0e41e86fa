"""Two processes that train together end with the same weights."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from synccache.stage.ranks import Ranks


def rank(number, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=2)
    module = nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.fill_(number)
    ranks = Ranks(number, 2)
    module.weight.grad = torch.full((1, 2), float(number))
    values = ranks.average(module, torch.tensor([10.0 * number]))
    ranks.align(module)
    torch.save((values, module.weight.grad, module.bias.grad, module.weight.detach()), f"{folder}/{number}.pt")
    dist.destroy_process_group()


def test_gradients_and_values_are_averaged_and_weights_aligned(tmp_path):
    mp.spawn(rank, (str(tmp_path),), nprocs=2)
    for number in (0, 1):
        values, weight, bias, aligned = torch.load(tmp_path / f"{number}.pt")
        assert values.tolist() == [5.0] and (weight == 0.5).all() and (bias == 0).all() and (aligned == 0).all()


def test_one_process_leaves_everything_as_it_is():
    module = nn.Linear(2, 1)
    values = torch.tensor([3.0])
    assert Ranks().average(module, values) is values and module.weight.grad is None
