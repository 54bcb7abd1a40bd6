"""What the methods fix, each with its source: read by whoever transforms and by whoever verifies.

Imports no torch, so that the checker can read it.
"""

from __future__ import annotations

from edgebench.transform.scale_groups import K, Q

SEARCHED = "searched"  # in a ledger: a parameter that a search chose, group by group

# --------------------------------------------------------------------------------------------- awq
AWQ_EXPONENT_STEPS = 20  # llm-awq auto_scale.py n_grid: 0, 1/20, ..., 19/20
AWQ_SMALLEST_SCALE = 1e-4  # llm-awq auto_scale.py
CLIP_STEPS = 20  # llm-awq auto_clip.py n_grid
CLIP_TRIED = 10  # llm-awq auto_clip.py max_shrink 0.5: half of them
NOT_CLIPPED = frozenset({Q, K})  # llm-awq auto_clip.py: clipping them is harmful
CLIP_SHRINKS = tuple(1 - step / CLIP_STEPS for step in range(CLIP_TRIED))

# ------------------------------------------------------------------------------------- smoothquant
ALPHA_STEPS = 20  # ours: 0, 1/20, ..., 1
SMALLEST_MAXIMUM = 1e-5  # smoothquant/smooth.py

# -------------------------------------------------------------------------------------------- gptq
DAMPING = (1e-6, 1.0)  # ours: above 0, where a Hessian has a factor; 1 drowns it
ORDER_STEPS = 32  # ours, to a doubling of diag H: columns within 2 % keep their places

# ---------------------------------------------------------------------------------- scales, grids
LARGEST_RATIO = 1024.0  # ours: scales stay within 1/1024 .. 1024, so that no channel is lost
SMALLEST_GRID_SCALE = 2.0**-24  # smallest fp16 above 0: stands in where a grid's scale rounds to 0
