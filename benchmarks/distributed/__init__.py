"""Training over several processes or machines: each has a share of every batch, and the gradients
are averaged. manual's by an all-reduce of its flat buffer, torch's by DistributedDataParallel."""
