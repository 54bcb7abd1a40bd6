"""Tasks with a reference model, a scored set, a calibration set and a quality metric.

`catalog` is the door; `task` reads `task.toml`; `widen` grows the embedded models to full size.
"""
