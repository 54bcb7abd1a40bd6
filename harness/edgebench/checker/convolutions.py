"""INT8 weights of the layers that are no matrix products: computed again, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.checker.recipe import read_recipe
from edgebench.checker.subject import Subject
from edgebench.errors import BundleError
from edgebench.findings import Finding, finding
from edgebench.profiles import CLOSED_TRANSFORMS
from edgebench.transform.quantized import int8_hashes
from edgebench.transform.rtn import INT8_BITS
from edgebench_kernels.int8_format import quantize_int8

MAX_FINDINGS = 3


def check_convolutions(subject: Subject) -> Iterator[Finding]:
    """W-15: the ledger's INT8 weights are the reference's rounded, where the recipe says so."""
    ledger = subject.bundle.ledger
    if not ledger.steps or not {step.transform for step in ledger.steps} <= CLOSED_TRANSFORMS:
        return  # W-07 says so; in the open track O-01 and O-07 look at them
    try:
        is_int8 = read_recipe(ledger.steps).convolution_bits == INT8_BITS
    except BundleError:
        return  # W-07 says so
    reference = subject.workload.reference
    names = reference.convolutions if is_int8 else ()
    expected = int8_hashes({name: quantize_int8(reference.weight(name)) for name in names})
    unlike = sorted(
        name
        for name in expected.keys() | ledger.convolutions.keys()
        if expected.get(name) != ledger.convolutions.get(name)
    )
    for name in unlike[:MAX_FINDINGS]:
        text = f"{name} as INT8 with sha256 {expected.get(name)}"
        yield finding("W-15", text, ledger.convolutions.get(name))
    if len(unlike) > MAX_FINDINGS:
        text = "every INT8 weight as the reference's is rounded"
        yield finding("W-15", text, f"{len(unlike) - MAX_FINDINGS} more of this kind")
