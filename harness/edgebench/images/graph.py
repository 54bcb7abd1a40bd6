"""The graph of a model of images: its genome, and the hash that names it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from edgebench.errors import AssetError
from edgebench_workloads.wake.genome import Genome, genome_from_json, layers

CONFIG_FILE = "config.json"


def read_genome(directory: Path) -> Genome:
    """The genome of a model's directory; AssetError where config.json holds none."""
    path = directory / CONFIG_FILE
    try:
        return genome_from_json(json.loads(path.read_text(encoding="utf-8"))["genome"])
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise AssetError(f"[{path}] expected the genome of a subnet: {err}; reinstall") from err


def graph_sha256(genome: Genome) -> str:
    """Hash the architecture: the resolution, and every layer's name and shape in order."""
    rows = [
        [one.name, one.inputs, one.outputs, one.kernel, one.stride, one.groups, one.side]
        for one in layers(genome)
    ]
    text = json.dumps({"resolution": genome.resolution, "layers": rows}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
