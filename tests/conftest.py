"""Shared by all tests: one thread, and toys importable."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)


@pytest.fixture
def s2v():
    from toys import WanModel_S2V

    return WanModel_S2V().eval()
