"""The premises of an audit of images: the network that a bundle filed, not one like it.

An open network is filed whole, so that no search or training is repeated: `bench check` has held
its tensors against the ledger before.
"""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError

from edgebench import layout
from edgebench.audit.filed_tensors import read_tensors
from edgebench.bundle import Bundle
from edgebench.checker.open_track import filed_arrays
from edgebench.codec import canonical_json, sha256_bytes
from edgebench.errors import AssetError, BundleError, RuleViolation, harness_error
from edgebench.images.changed import ChangedNetwork
from edgebench.images.graph import read_genome
from edgebench.images.prepared import PreparedImages, linears_of, open_linears
from edgebench.ledger import identity_of
from edgebench.open_subnet import genome_of
from edgebench.progress import Progress
from edgebench.transform import CHANGES
from edgebench.transform.changed import Made, arrays_sha256
from edgebench.transform.convolutions import ConvolutionLinears
from edgebench.transform.kept import made_once
from edgebench.transform.quantized import QuantizedModel, int8_hashes
from edgebench_kernels.formats import tensor_sha256
from edgebench_kernels.int8_format import quantize_int8
from edgebench_workloads.cache import cache_root
from edgebench_workloads.catalog import WORKLOADS
from edgebench_workloads.errors import WorkloadError

FOLDER, MODEL = "filed", "model"


def filed_images(bundle: Bundle, tensors: Path | None, progress: Progress) -> PreparedImages:
    """The bundle's workload around the very network that it filed.

    tensors: the folder of quantized tensors that are not in the bundle. Raises BundleError where
    tensors are missing, RuleViolation where they are not the ledger's.
    """
    workload = WORKLOADS[bundle.record.workload.name]
    try:
        with progress.stage(f"{workload.name}: weights") as update:
            directory = workload.reference_directory(progress=update)
            scenes = workload.scored_scenes()
    except WorkloadError as err:
        raise harness_error(err) from err
    network = filed_network(bundle)
    linears = open_linears(workload, directory)
    if network is not None:
        linears = linears_of(network.directory, network.sha256)
    return PreparedImages(
        workload=workload,
        directory=directory,
        genome=read_genome(directory),
        scenes=scenes,
        changed=network,
        quantized=_quantized(bundle, tensors, linears),
        identity=identity_of(workload),
        ledger=bundle.ledger,
    )


def filed_network(bundle: Bundle) -> ChangedNetwork | None:
    """The open track's network as a folder of the cache; None where the reference's runs."""
    model = bundle.ledger.open_network or bundle.ledger.open_subnet
    if model is None:
        return None
    genome, arrays = genome_of(model.genome), filed_arrays(bundle)
    sha256 = arrays_sha256(arrays)
    recipe = canonical_json({"genome": genome.as_json(), "tensors": sha256})
    directory = cache_root() / FOLDER / sha256_bytes(recipe)
    steps = [step for step in bundle.ledger.steps if step.transform in CHANGES]

    def read(folder: Path) -> ChangedNetwork | None:
        found = ChangedNetwork(directory=folder / MODEL, made=Made(steps=steps, training=[]))
        try:
            is_whole = found.genome == genome and arrays_sha256(found.arrays()) == sha256
        except (AssetError, SafetensorError, OSError):
            return None
        return found if is_whole else None

    def write(folder: Path) -> None:
        import torch

        from edgebench_workloads.wake import subnet

        own = {name: torch.from_numpy(array) for name, array in arrays.items()}
        subnet.write(folder / MODEL, genome, own)

    begun = directory.with_name(f"{directory.name}.begun")
    return made_once(directory, begun, read, write, "[audit] expected the network just written")


def _quantized(bundle: Bundle, tensors: Path | None, linears: ConvolutionLinears) -> QuantizedModel:
    """INT4 tensors as filed, INT8 weights as they follow; held against the ledger."""
    ledger, path = bundle.ledger, bundle.tensors_path
    if not ledger.tensors:
        return QuantizedModel(tensors={}, steps=tuple(ledger.steps))
    if path is None and tensors is not None:
        path = tensors / layout.TENSORS
    if path is None:
        raise BundleError(
            f"[audit] expected {layout.TENSORS} in {bundle.path}, got no such file; "
            "give the submitted ones with --tensors DIR"
        )
    names = linears.convolutions if ledger.convolutions else ()
    quantized = QuantizedModel(
        tensors=read_tensors(path, sorted(ledger.tensors)),
        steps=tuple(ledger.steps),
        convolutions={name: quantize_int8(linears.weight(name)) for name in names},
    )
    found = {name: tensor_sha256(one) for name, one in quantized.tensors.items()}
    found_int8 = int8_hashes(quantized.convolutions)
    if (found, found_int8) != (ledger.tensors, ledger.convolutions):
        raise RuleViolation(
            f"[audit] expected {path} to give the ledger's tensors, got others; "
            "give the submitted ones with --tensors DIR"
        )
    return quantized
