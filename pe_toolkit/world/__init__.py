"""The small world of the bundled backbone: its words, its scenes, and what is measured against
their known truth. The same for training, demo and benchmarks.
"""
