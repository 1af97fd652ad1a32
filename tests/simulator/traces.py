"""Trace hashes of some seeds, made in processes that order sets and dicts of strings differently."""

import os
import subprocess
import sys

CODE = "from {module} import run; print([run(seed, {nodes}).trace for seed in range(4)])"


def traces(module: str, nodes: int) -> set[str]:
    """Return what two processes with different PYTHONHASHSEED print; one string if they agree."""
    return {
        subprocess.run(
            [sys.executable, "-c", CODE.format(module=module, nodes=nodes)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for hash_seed in ("1", "2")
    }
