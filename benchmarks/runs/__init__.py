"""Results that add up: every run appends to runs.csv; `handgrad results` reads it."""
