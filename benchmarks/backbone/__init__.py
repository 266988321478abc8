"""Trains the bundled backbone: `python -m benchmarks.backbone` (or `make train-bundled`)."""
