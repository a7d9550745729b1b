"""The speed table: a training step of manual, torch and others, proven equal, then timed."""
