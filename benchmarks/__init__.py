"""MNIST with both sides: the pair is proven first, then trained and timed."""
