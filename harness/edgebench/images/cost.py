"""What a model of images costs on paper, whatever machine it runs on."""

from __future__ import annotations

from collections.abc import Mapping

from edgebench.record import ModelCost
from edgebench_workloads.wake.costs import (
    convolutions,
    peak_activations,
    products,
    total_macs,
    total_parameters,
)
from edgebench_workloads.wake.genome import Genome

FP16_BYTES, INT8_BYTES = 2, 1
SCALE_AND_ZERO_BYTES = 3  # fp16 and uint8, a group


def cost_of(genome: Genome, groups: Mapping[str, int], *, is_int8: bool = False) -> ModelCost:
    """The cost of a subnet whose layers named in `groups` are INT4 in groups of that size.

    is_int8: the layers that are no matrix products are INT8, a scale an output channel.
    """
    parameters = total_parameters(genome)
    size_bytes = FP16_BYTES * parameters
    for layer in products(genome):
        if group := groups.get(layer.name):
            codes = layer.weights // 2
            size_bytes += codes + SCALE_AND_ZERO_BYTES * (layer.weights // group)
            size_bytes -= FP16_BYTES * layer.weights
    for layer in convolutions(genome) if is_int8 else ():
        size_bytes += FP16_BYTES * layer.outputs - (FP16_BYTES - INT8_BYTES) * layer.weights
    return ModelCost(
        parameters=parameters,
        macs=total_macs(genome),
        model_bytes=size_bytes,
        peak_activation_bytes=peak_activations(genome),
    )
