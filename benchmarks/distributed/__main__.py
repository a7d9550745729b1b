"""One process of a run that torchrun has started: `torchrun --nproc-per-node N -m
benchmarks.distributed`, with the options of `handgrad bench`."""

import sys

from benchmarks.cli import main

if __name__ == "__main__":
    main(["bench", "--member", *sys.argv[1:]])
