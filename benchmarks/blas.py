"""NumPy's BLAS, and what the CPU could do."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl


def numpy_blas() -> dict[str, Any] | None:
    """What threadpoolctl knows of the BLAS that came with NumPy; None where it knows nothing, as of
    Accelerate. Its "architecture" is OpenBLAS's kernel set."""
    folder = str(Path(np.__file__).parent.parent)
    for info in threadpoolctl.threadpool_info():
        if info["user_api"] == "blas" and info["filepath"].startswith(folder + os.sep + "numpy"):
            return info
    return None


def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> set[str]:
    """What Linux says an x86 CPU can do, as "avx2"; nothing elsewhere."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return set()
    flags = (line.split(":", 1)[1] for line in lines if line.startswith("flags"))
    return set(next(flags, "").split())  # every core has the same
