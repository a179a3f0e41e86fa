"""Python programs started in processes of their own, with the tests' models importable."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent / "launch" / "scripts"
PATHS = [str(SCRIPTS.parents[1]), str(SCRIPTS / "avatar"), *sys.path]  # HunyuanVideo-Avatar's README: PYTHONPATH=./
ENVIRONMENT = {
    **os.environ, "PYTHONPATH": os.pathsep.join(PATHS), "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "error::UserWarning:synccache",
}  # fmt: skip


def launched(*command, timeout=240):
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=timeout, env=ENVIRONMENT
    )
