"""Every block of README and of ``docs/use`` runs: shell lines as bash reads them, Python as it stands.

Tiny random weights are put in the place of checkpoints (``on_the_cpu.py``), stand-ins in that of the released
repositories (``tests/launch/scripts``); what would need a network or minutes is compared with what there is
(``shell.py``).
"""

import re
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from on_the_cpu import replacements
from PIL import Image
from running import process_of, run_python, run_synccache, run_torchrun
from shell import CHECKED, ROOT, Call, Shell, windows_calls

import synccache
from synccache.portrait.transformer import PortraitConfig, PortraitTransformer

PAGES = {str(p.relative_to(ROOT)): p for p in (ROOT / "README.md", *sorted((ROOT / "docs" / "use").glob("*.md")))}
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
RUN = {"synccache": run_synccache, "torchrun": run_torchrun, "python": run_python, "python3": run_python}
TINY = PortraitConfig(
    image_size=32, patch_size=8, frames=2, motion_frames=1, dim=32, heads=2, layers=3, ffn_dim=32, inject_after=(0, 1)
)
DONE: set[tuple] = set()  # commands that stand on several pages


def blocks_of(page: Path):
    """Language and text of each fenced block, with the line that it begins on."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        yield found[2], re.sub(f"^{found[1]}", "", found[3], flags=re.MULTILINE), text[: found.start()].count("\n") + 2


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """A folder with what the pages take for granted: a portrait, its mask, speech; and no GPU."""
    for owner, name, value in replacements():
        monkeypatch.setattr(owner, name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = Shell(tmp_path)
    Image.effect_noise((64, 64), 60).convert("RGB").save(made.folder / "portrait.jpg")
    Image.fromarray(np.eye(64, dtype=np.uint8) * 255).save(made.folder / "person.png")
    with wave.open(str(made.folder / "speech.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((np.sin(np.arange(4000) / 7) * 9000).astype(np.int16).tobytes())
    PortraitTransformer(TINY).save(made.folder / "tiny.safetensors")
    yield made
    torch._dynamo.reset()


class Page:
    """A page while it is run: one namespace for its Python, one shell for its commands."""

    def __init__(self, name: str, shell: Shell) -> None:
        self.name, self.shell, self.names, self.scripts = name, shell, {"__name__": "__main__"}, set()

    def run(self, language: str, text: str, line: int) -> None:
        if language == "python":
            self.python(text, line)
        elif language == "bash":
            for call in self.shell.calls(text):
                self.call(call)
        elif language == "bat":
            for program, *arguments in windows_calls(text):
                self.call(Call(self.shell.folder, {}, program, tuple(arguments)))
        else:
            raise AssertionError(f"{self.name}:{line}: no way to run a block of {language or 'no language'!r}")

    def python(self, text: str, line: int) -> None:
        """A block that begins with a file's name is that file, and has to be launched by a command of the page."""
        file = re.match(r"# (\w+\.py)\n", text)
        if file:
            (self.shell.folder / file[1]).write_text(text, encoding="utf-8")
            self.scripts.add(file[1])
            return
        with process_of(Call(self.shell.folder, {}, "python", ())):
            exec(compile("\n" * (line - 1) + text, self.name, "exec"), self.names)

    def call(self, call: Call) -> None:
        self.scripts -= set(call.arguments)
        if call.program in CHECKED:
            CHECKED[call.program](call.arguments)
        elif call.program == "python" and call.arguments[:2] == ("-m", "pip"):
            CHECKED["pip"](call.arguments[2:])
        elif call.program == "python" and call.arguments[:2] == ("-m", "synccache"):
            self.call(Call(call.folder, call.environment, "synccache", call.arguments[2:]))
        elif (key := (call.program, call.arguments, *sorted(call.environment.items()))) not in DONE:
            RUN[call.program](call)
            DONE.add(key)


@pytest.mark.parametrize("name", PAGES)
def test_every_block_of_the_page_runs(name, shell):
    page = Page(name, shell)
    blocks = list(blocks_of(PAGES[name]))
    assert any(language in ("bash", "python") for language, _, _ in blocks)
    for block in blocks:
        page.run(*block)
    assert not page.scripts, f"no command launches {page.scripts}"


LINKING = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "integrations").rglob("*.md")]


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(FENCE, "", page.read_text(encoding="utf-8"))
    links = [link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    headings = {re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-") for line in text.splitlines()
                if line.startswith("#")}  # fmt: skip
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= headings


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 120 and len(text.split()) <= 1000


LONG = {  # the row of README's table: that of the long one
    "*18 steps*": ("measured", "*fewer-steps 18*"),
    "*14 steps*": ("measured", "*fewer-steps 14*"),
    "`synccache`": ("measured", "synccache (defaults)"),
    "`synccache-linear`, 14 computed": ("measured", "synccache-linear @14"),
    "`synccache-cfg`": ("measured", "synccache-cfg (defaults)"),
    "*10 steps*": ("methods-measured", "*fewer-steps 10*"),
    "`searched`, 10 computed": ("methods-measured", "searched @10"),
}


def rows_of(path: Path):
    """Rows of a page's tables by their first cell."""
    lines = [line.strip("| ").split(" | ") for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    return {cells[0].strip(): " | ".join(cells[1:]) for cells in lines}


def test_the_readmes_table_repeats_the_long_one():
    short = rows_of(ROOT / "README.md")
    for row, (page, name) in LONG.items():
        long = rows_of(ROOT / "docs" / f"{page}.md")[name]
        figures = [cell for cell in short.pop(row).split(" | ") if cell.strip("– ")]
        assert len(figures) >= 2 and all(figure.strip(" dB") in long for figure in figures), row
    told = " ".join((ROOT / "docs" / "methods-measured.md").read_text(encoding="utf-8").split())
    assert "47.8 dB (+13.0 dB [+9.0, +16.4] over ten steps" in told
    assert "47.8 dB | +13.0 dB [+9.0, +16.4]" in short.pop("*10 picked steps of 40, no cache*")
    assert not any(" dB" in cells for cells in short.values())


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("bash", 'pip install "synccache[gpu]"'),
        ("bash", "pip install sincache"),
        ("bash", "make tests"),
        ("bash", "nvidia-smi"),
        ("bash", "git clone https://github.com/Wan-Video/Wan2.2\ngit -C Wan2.2 checkout 0000000"),
        ("bash", "synccache demo --fast"),
        ("bash", "synccache run --sped 3 -- generate.py"),
        ("bash", "synccache animate --image nobody.jpg --audio speech.wav"),
        ("bat", '.venv\\Scripts\\pip install ".[win]"'),
        ("python", "import synccache\nsynccache.apply(None)"),
        ("", "anything"),
    ],
)
def test_a_wrong_block_is_found(language, text, shell):
    with pytest.raises((AssertionError, synccache.InputError)):
        Page("wrong.md", shell).run(language, text, 1)


def test_a_wrong_option_of_a_released_script_is_found(shell):
    page = Page("wrong.md", shell)
    page.run("bash", "git clone https://github.com/Wan-Video/Wan2.2\ncd Wan2.2", 1)
    with pytest.raises(SystemExit):
        page.run("bash", "synccache run --speed 3 -- generate.py --task s2v-14B --ckpt-dir .", 1)
