"""What fits on a machine: how much memory a task takes (`memory`), how it is placed for that
(`placement`), what waits off the GPU (`offload`), what is computed twice (`recompute` has the rule,
`checkpointing` does it), what cannot be trained (`trainable`). `resident` is all that as a part of
a backbone.
"""
