"""The example workflow: it loads, and its node is ours."""

import importlib.util
import json

import pytest
from comfy_models import WanModel_S2V
from comfy_runs import patcher_of, sample, trace_of
from conftest import FOLDER

ROOT = FOLDER.parents[1]
(WORKFLOW,) = (FOLDER / "example_workflows").glob("*.json")
NODES = {node["id"]: node for node in json.loads(WORKFLOW.read_text(encoding="utf-8"))["nodes"]}
LINKS = json.loads(WORKFLOW.read_text(encoding="utf-8"))["links"]
# Inputs and outputs of ComfyUI's own nodes, at a125cd8 (0.3.64).
CORE = {
    "UNETLoader": ("unet_name weight_dtype", "MODEL"),
    "CLIPLoader": ("clip_name type device", "CLIP"),
    "VAELoader": ("vae_name", "VAE"),
    "AudioEncoderLoader": ("audio_encoder_name", "AUDIO_ENCODER"),
    "LoadAudio": ("audio", "AUDIO"),
    "LoadImage": ("image", "IMAGE MASK"),
    "ModelSamplingSD3": ("model shift", "MODEL"),
    "CLIPTextEncode": ("clip text", "CONDITIONING"),
    "AudioEncoderEncode": ("audio_encoder audio", "AUDIO_ENCODER_OUTPUT"),
    "WanSoundImageToVideo": (
        "positive negative vae audio_encoder_output ref_image control_video ref_motion width height length batch_size",
        "CONDITIONING CONDITIONING LATENT",
    ),
    "KSampler": (
        "model positive negative latent_image seed steps cfg sampler_name scheduler denoise", "LATENT",
    ),
    "VAEDecode": ("samples vae", "IMAGE"),
    "CreateVideo": ("images audio fps", "VIDEO"),
    "SaveVideo": ("video filename_prefix format codec", ""),
}  # fmt: skip


def test_nodes_are_those_of_comfyui_and_ours():
    for node in NODES.values():
        if node["type"] != "SyncCache":
            inputs, outputs = CORE[node["type"]]
            assert [i["name"] for i in node["inputs"]] == inputs.split(), node["type"]
            assert [o["type"] for o in node["outputs"]] == outputs.split(), node["type"]


def test_links_join_what_fits():
    found = {"inputs": set(), "outputs": set()}
    for number, source, out, target, into, kind in LINKS:
        sent, received = NODES[source]["outputs"][out], NODES[target]["inputs"][into]
        assert sent["type"] == received["type"] == kind
        assert number in sent["links"] and received["link"] == number
        assert NODES[source]["order"] < NODES[target]["order"]
        found["inputs"].add(number)
    assert len(found["inputs"]) == len(LINKS) == sum(i["link"] is not None for n in NODES.values() for i in n["inputs"])


@pytest.fixture
def ours(pack):
    """Our node in the workflow: its class, the inputs that are linked, and the values of the others by name."""
    (node,) = (node for node in NODES.values() if node["type"] == "SyncCache")
    names = [i["name"] for i in node["inputs"] if "widget" in i]
    values = dict(zip(names, node["widgets_values"], strict=True))
    return pack.NODE_CLASS_MAPPINGS["SyncCache"], [i["name"] for i in node["inputs"] if "widget" not in i], values


@pytest.mark.filterwarnings("ignore:speed=")  # of so small a model, a skipped step may cost anything
def test_our_node_has_our_inputs_and_takes_its_values(ours, node):
    cls, linked, values = ours
    given = cls.INPUT_TYPES()
    kinds = {**given["required"], **given["optional"]}
    sockets = [name for name, (kind, *_) in kinds.items() if kind in ("MODEL", "MASK")]
    assert linked == sockets and list(values) == [n for n in kinds if n not in sockets]  # values are read in this order
    for name, (kind, *options) in kinds.items():
        if isinstance(kind, list):
            assert values[name] in kind
        elif kind in ("FLOAT", "INT"):
            assert options[0]["min"] <= values[name] <= options[0]["max"]
    patcher = node(patcher_of(WanModel_S2V), **values)
    sample(patcher)
    assert trace_of(patcher).skipped() > 5 and values["speed"] == 3


def test_the_picture_is_drawn_from_it(tmp_path):
    spec = importlib.util.spec_from_file_location("draw_workflow", ROOT / "tools" / "draw_comfyui_workflow.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.WORKFLOW == WORKFLOW
    tool.draw(json.loads(WORKFLOW.read_text(encoding="utf-8")), tmp_path / "drawn.png")
    for picture in (tmp_path / "drawn.png", tool.PICTURE):
        assert 20_000 < picture.stat().st_size < 100_000
