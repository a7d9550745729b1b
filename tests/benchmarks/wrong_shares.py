"""Mistakes in sharing a batch, which the proof of the processes must find: for ranks.py."""

from benchmarks.distributed import sides
from benchmarks.distributed.group import Alone


def unweighted():
    """Every process as if all had equally many samples."""
    real = sides.Manual.backward

    def backward(self, own, weight):
        return real(self, own, 1 / self.group.world)

    sides.Manual.backward = backward


def unweighted_torch():
    """As DistributedDataParallel does by itself."""
    real = sides.Torch.backward
    sides.Torch.backward = lambda self, own, weight: real(self, own, 1 / self.group.world)


def unsummed():
    """manual's gradients stay those of the share."""
    real = sides.Manual.backward

    def backward(self, own, weight):
        group, self.group = self.group, Alone()
        try:
            return real(self, own, weight)
        finally:
            self.group = group

    sides.Manual.backward = backward


def twice():
    """A sample is in two shares."""
    real = sides.share
    sides.share = lambda index, r, world: (
        real(index, r, world) if world == 1 else real(index, max(r, 1), world)
    )


def slightly():
    """Off by 1e-9, on both shared sides alike: only one process alone can tell."""

    def off(kind):
        real = kind.update

        def update(self):
            real(self)
            if self.group.world > 1:
                for value in self.net.parameters():
                    data = value.data
                    data *= 1 + 1e-9

        kind.update = update

    off(sides.Manual)
    off(sides.Torch)


WRONG = {
    "unweighted": unweighted,
    "unweighted torch": unweighted_torch,
    "unsummed": unsummed,
    "twice": twice,
    "slightly": slightly,
}
