"""The search space: which subnets of the supernet there are, and what each costs on paper.

A genome says the input's resolution and, for each of the stages, how many blocks it has and every
block's kernel and expansion (Once-for-All's space, at the size of MCUNet's visual wake words). The
blocks past a stage's depth do not exist: their genes are 0, so equal subnets have equal genomes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

RESOLUTIONS = (64, 80, 96)
DEPTHS = (2, 3, 4)
KERNELS = (3, 5, 7)
EXPANSIONS = (3, 4, 6)

STEM_CHANNELS = 8
STAGE_CHANNELS = (16, 32, 64)
HEAD_CHANNELS = 192
CLASSES = 2
STEM_KERNEL = 3
MAX_DEPTH = max(DEPTHS)
STAGES = len(STAGE_CHANNELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Genome:
    """One subnet; kernels and expansions have a row a stage, an entry a block, 0 where none is."""

    resolution: int
    depths: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    expansions: tuple[tuple[int, ...], ...]
    middles: tuple[tuple[int, ...], ...] | None = None
    """Middle channels of every block after a cut, which no subnet has; None: as it expands."""

    def __post_init__(self) -> None:
        """Raise ValueError for a genome that names no subnet."""
        if self.resolution not in RESOLUTIONS:
            raise ValueError(
                f"[wake] expected a resolution of {RESOLUTIONS}, got {self.resolution}"
            )
        if len(self.depths) != STAGES or not set(self.depths) <= set(DEPTHS):
            raise ValueError(f"[wake] expected {STAGES} depths of {DEPTHS}, got {self.depths}")
        for name, rows, choices in (
            ("kernels", self.kernels, KERNELS),
            ("expansions", self.expansions, EXPANSIONS),
        ):
            if len(rows) != STAGES or any(len(row) != MAX_DEPTH for row in rows):
                raise ValueError(f"[wake] expected {STAGES}x{MAX_DEPTH} {name}, got {rows}")
            for depth, row in zip(self.depths, rows, strict=True):
                if not set(row[:depth]) <= set(choices) or any(row[depth:]):
                    raise ValueError(
                        f"[wake] expected {depth} {name} of {choices} and zeros, got {row}"
                    )
        if self.middles is not None:
            self._check_middles(self.middles)

    def _check_middles(self, middles: tuple[tuple[int, ...], ...]) -> None:
        whole = [self.expanded(stage) for stage in range(STAGES)]
        fits = [len(row) for row in middles] == [MAX_DEPTH] * STAGES and all(
            bool(here) == bool(most) and 0 <= here <= most
            for row, own in zip(middles, whole, strict=True)
            for here, most in zip(row, own, strict=True)
        )
        if not fits:
            raise ValueError(f"[wake] expected middle channels of at most {whole}, got {middles}")

    def expanded(self, stage: int) -> tuple[int, ...]:
        """Middle channels of a stage's blocks as they expand, 0 where there is no block."""
        before = STAGE_CHANNELS[stage - 1] if stage else STEM_CHANNELS
        return tuple(
            expansion * (STAGE_CHANNELS[stage] if place else before)
            for place, expansion in enumerate(self.expansions[stage])
        )

    def middle(self, stage: int, place: int) -> int:
        """Middle channels of one block."""
        own = self.expanded(stage) if self.middles is None else self.middles[stage]
        return own[place]

    def blocks(self) -> Iterator[tuple[int, int, int, int]]:
        """Stage, place, kernel and expansion of every block that there is, in order."""
        for stage, depth in enumerate(self.depths):
            for place in range(depth):
                yield stage, place, self.kernels[stage][place], self.expansions[stage][place]

    def as_json(self) -> dict[str, Any]:
        """As files and ledgers hold it."""
        found: dict[str, Any] = {
            "resolution": self.resolution,
            "depths": list(self.depths),
            "kernels": [list(row) for row in self.kernels],
            "expansions": [list(row) for row in self.expansions],
        }
        if self.middles is not None:
            found["middles"] = [list(row) for row in self.middles]
        return found


def genome_from_json(found: dict[str, Any]) -> Genome:
    """Read what as_json wrote; ValueError for anything else."""
    try:
        return Genome(
            resolution=int(found["resolution"]),
            depths=tuple(map(int, found["depths"])),
            kernels=tuple(tuple(map(int, row)) for row in found["kernels"]),
            expansions=tuple(tuple(map(int, row)) for row in found["expansions"]),
            middles=_rows(found.get("middles")),
        )
    except (KeyError, TypeError) as err:
        raise ValueError(f"[wake] expected a genome, got {found!r}") from err


def _rows(found: Sequence[Sequence[int]] | None) -> tuple[tuple[int, ...], ...] | None:
    return None if found is None else tuple(tuple(map(int, row)) for row in found)


def make_genome(
    choose: Callable[[Sequence[int]], int],
    *,
    resolutions: Sequence[int] = RESOLUTIONS,
    depths: Sequence[int] = DEPTHS,
    kernels: Sequence[int] = KERNELS,
    expansions: Sequence[int] = EXPANSIONS,
) -> Genome:
    """A genome whose genes `choose` picks: max, min, or a draw."""
    resolution = choose(resolutions)
    deep = tuple(choose(depths) for _ in range(STAGES))

    def genes(choices: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        return tuple(
            tuple(choose(choices) if place < depth else 0 for place in range(MAX_DEPTH))
            for depth in deep
        )

    return Genome(
        resolution=resolution, depths=deep, kernels=genes(kernels), expansions=genes(expansions)
    )


LARGEST = make_genome(max)
SMALLEST = make_genome(min)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One convolution or linear as it runs."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    groups: int
    side: int
    """Of its output; 1 for a linear."""

    @property
    def weights(self) -> int:
        """How many weights it has, biases apart."""
        return self.outputs * (self.inputs // self.groups) * self.kernel**2

    @property
    def is_clamped(self) -> bool:
        """Whether relu6 stands behind it."""
        return self.name.rpartition(".")[2] not in ("project", "classifier")

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.weights * self.side**2


def layers(genome: Genome) -> list[Layer]:
    """Every layer of a subnet in execution order."""
    found = [_dense("stem", 1, STEM_CHANNELS, genome.resolution // 2, STEM_KERNEL, stride=2)]
    for stage, place, kernel, _ in genome.blocks():
        block = f"stages.{stage}.{place}"
        inputs, side = found[-1].outputs, found[-1].side
        middle, stride = genome.middle(stage, place), block_stride(place)
        depthwise = Layer(
            name=f"{block}.depthwise",
            inputs=middle,
            outputs=middle,
            kernel=kernel,
            stride=stride,
            groups=middle,
            side=side // stride,
        )
        found += [
            _dense(f"{block}.expand", inputs, middle, side),
            depthwise,
            _dense(f"{block}.project", middle, STAGE_CHANNELS[stage], depthwise.side),
        ]
    last = found[-1]
    head = _dense("head", last.outputs, HEAD_CHANNELS, last.side)
    return [*found, head, _dense("classifier", HEAD_CHANNELS, CLASSES, 1)]


def _dense(
    name: str, inputs: int, outputs: int, side: int, kernel: int = 1, *, stride: int = 1
) -> Layer:
    """A layer in which every output reads every input."""
    return Layer(
        name=name,
        inputs=inputs,
        outputs=outputs,
        kernel=kernel,
        stride=stride,
        groups=1,
        side=side,
    )


def block_stride(place: int) -> int:
    """A stage's first block halves the image."""
    return 2 if place == 0 else 1


def is_residual(stage: int, place: int) -> bool:
    """Whether a block adds its input: all but a stage's first."""
    return place > 0
