"""A process that torch's launcher starts, without torch: for test_launch.py."""

import json
import os
import signal
import sys
import time
from pathlib import Path


def main(what: str, folder: str) -> int:
    rank = os.environ["RANK"]
    (Path(folder) / f"{rank}-{os.getpid()}").write_text(os.environ["OMP_NUM_THREADS"])
    if what == "nothing":
        return 0
    if rank == "1":
        while len(list(Path(folder).iterdir())) < int(os.environ["WORLD_SIZE"]):
            time.sleep(0.01)  # all have begun
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "tell":
            told = {"message": "rank 3 is odd", "extraInfo": {"timestamp": int(time.time())}}
            Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps({"message": told}))
            return 1
        return {"interrupted": 130}.get(what, 5)
    time.sleep(600)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
