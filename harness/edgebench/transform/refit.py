"""The refit behind a cut: what stays of a linear's inputs makes up for those that went.

    min over W'  || X W^T - X_kept W'^T ||_F^2 + damping mean(diag H) || W' - W_kept ||_F^2
    W' = W_kept + W_gone H_gone,kept (H_kept,kept + damping mean(diag H) I)^-1,   H = X^T X / S

Least squares on the calibration inputs, drawn towards the weights as they were.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgebench.errors import RunFailed
from edgebench.transform.pruning import DEFAULT_DAMPING


def refitted(weight: Tensor, x: Tensor, keep: Tensor) -> Tensor:
    """W' [N, kept] of weight [N, K] that reads x [S, K]; keep bool [K]. In their dtype.

    Raises RunFailed where H has no factor.
    """
    kept, gone = weight[:, keep], weight[:, ~keep]
    hessian = (x.T @ x).div_(x.shape[0])
    damped = hessian[keep][:, keep]
    damped.diagonal().add_(DEFAULT_DAMPING * hessian.diagonal().mean())
    lower, failed = torch.linalg.cholesky_ex(damped)
    if int(failed) != 0 or not bool(torch.isfinite(lower).all()):
        raise RunFailed(
            "[prune] expected inputs whose Hessian has a Cholesky factor, got others; give "
            "refit=false"
        )
    missing = hessian[keep][:, ~keep] @ gone.T
    return kept + torch.cholesky_solve(missing, lower).T
