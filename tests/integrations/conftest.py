"""The ComfyUI node, loaded as ComfyUI loads it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import comfy_doubles as comfy
import pytest

FOLDER = Path(__file__).parents[2] / "integrations" / "comfyui"


@pytest.fixture
def pack(monkeypatch):
    """The folder, loaded as ComfyUI loads a custom node, beside a ``comfy`` package."""
    extension = ModuleType("comfy.patcher_extension")
    extension.WrappersMP = comfy.WrappersMP
    monkeypatch.setitem(sys.modules, "comfy", ModuleType("comfy"))
    monkeypatch.setitem(sys.modules, "comfy.patcher_extension", extension)
    name = str(FOLDER).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, FOLDER / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    yield module
    for loaded in [n for n in sys.modules if n.startswith(name + ".")]:
        del sys.modules[loaded]


@pytest.fixture
def node(pack):
    """The node with every input at its default: ``node(patcher, method=..., ...)`` gives the new patcher."""
    inputs = pack.NODE_CLASS_MAPPINGS["SyncCache"].INPUT_TYPES()["required"]
    defaults = {name: spec[1]["default"] for name, spec in inputs.items() if name != "model"}

    def apply(patcher, **given):
        (out,) = pack.NODE_CLASS_MAPPINGS["SyncCache"]().apply(model=patcher, **{**defaults, **given})
        return out

    return apply
