"""The homework's MNIST study: its six runs with both sides, beside its own figures."""
