"""The numbers of the rulebook: what each profile demands, each with its source on the line.

A profile demands counts per (size class, scenario). The size class of an embedded workload is
`embedded`; a widened one (`assistant@300m`) or one brought by the user is `large`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgebench.record import Kernel, Scenario, Track
from edgebench.record import Profile as ProfileName

SizeClass = Literal["embedded", "large"]
ScoredOn = Literal["scored-set", "performance-outputs"]

# Seeds: the v6.1 round's, so that nobody chose them for us.
SAMPLE_INDEX_SEED = 2747215439041700203  # MLPerf Inference v6.1 mlperf.conf sample_index_rng_seed
SCHEDULE_SEED = 16159082839903944936  # MLPerf Inference v6.1 mlperf.conf schedule_rng_seed
QSL_SEED = 2085463073848966840  # MLPerf Inference v6.1 mlperf.conf qsl_rng_seed; draws nothing here

# Statistics.
LATENCY_PERCENTILE = 0.90  # MLPerf inference_rules.adoc, SingleStream metric
EARLY_STOPPING_CONFIDENCE = 0.99  # MLPerf inference_rules.adoc, early stopping, c = 0.99, d = 0
MIN_QUERIES_FOR_P90 = 64  # smallest n with t* >= 1 at p = .9, c = .99: LoadGen early_stopping.cc
MIN_ROUNDS = 6  # docs/design.md §6: the smallest count whose paired interval at 95 % exists
MIN_PAIRED_BLOCKS = MIN_ROUNDS  # ours: single-stream too, pairs are blocks; queries swing together
MANY_PAIRED_BLOCKS = 16  # ours: of short blocks, so that the interval leaves the extremes out
MIN_BLOCK_S = 2.0  # docs/design.md §6: long enough for a 10 Hz power meter to see 20 samples
SHORT_BLOCK_S = 0.5  # ours: what disturbs a machine lasts for seconds, and should meet both
OFFICIAL_DURATION_S = 600.0  # MLPerf inference_rules.adoc: every scenario runs 10 minutes at least
OFFICIAL_QUERIES = 1024  # MLPerf submission checker v6.1 constants.py, min-queries: SingleStream
DURATION_STAMP = "NON-COMPLIANT-DURATION"  # docs/design.md §6; shorter than OFFICIAL_DURATION_S

# Any engine.
CANDIDATES: tuple[Kernel, ...] = (
    "int4",
    "open",
    "external",
)  # ours: one of them beside the fp16 of a run
EXTERNAL: Kernel = "external"  # ours: an engine behind HTTP, whose weights nobody here can check
EXTERNAL_STAMP = "EXTERNAL-ENGINE"  # ours: such a bundle is never ranked with verified ones
SIMULATED_STAMP = "SIMULATED"  # ours: a tree of files stood for the device
EXTERNAL_TRANSFORM = "unknown"  # ours: nothing is declared that no rule could verify

# Quality.
ACCURACY_TARGET = 0.99  # MLPerf inference_rules.adoc: 99 % of the reference
HIGH_ACCURACY_TARGET = 0.999  # MLPerf inference_rules.adoc: the 99.9 % variants
LENGTH_CORRIDOR = (0.90, 1.10)  # MLPerf generative models: 90-110 % of the reference's tokens
REFERENCE_ACCURACY: Mapping[str, float] = {
    "assistant": 0.995,  # measured once on the scored set: workloads/.../assistant/README.md
    "wake": 0.961,  # likewise: workloads/.../wake/README.md
}
PINNED_SLACK = 0.005  # ours: 5 answers of 1,000 may flip with the order of additions on a machine
PINNED_SIGMAS = 3.0  # ours: three binomial standard deviations where a subset was scored
OUTPUT_MISMATCH_LIMIT = 0.01  # ours: outputs that may differ between modes by rounding order alone

# Weights.
NEAREST_CODE_SLACK_STEPS = 0.02  # ours: room for ties of the fp16 scale
MIN_REPLAYED_SHARE = 0.995  # ours: GPTQ's sums differ by precision and order; docs/provenance.md
MAX_REPLAYED_ZEROS = 0.001  # ours: of the codes that may miss, those that stand for zero
SCALE_TOLERANCE = 1e-3  # ours, relative: float32 activations of two BLAS libraries
MAX_DESCRIPTION_SHARE = 0.01  # inference_rules.adoc: "much much smaller"; 1 % is ours
DESCRIPTION_FLOOR_BYTES = 8192  # ours: a recipe of some lines beside a model of some kilobytes
MAX_CODE = 15  # docs/design.md §7: unsigned 4 bits
CLOSED_TRANSFORMS = frozenset({"rtn", "awq", "gptq", "smoothquant"})  # post-training quantizers
SUBNET_TOLERANCE = 5e-4  # ours: of a tensor's largest; sums in another order give 6e-6
CLOSED_BITS = 4  # the kernel is called int4
TENSORS_IN_BUNDLE_BYTES = 16 << 20  # docs/design.md §5: up to 16 MB of tensors are in the bundle

# Roofline.
MIN_CEILING_REPEATS = 5  # docs/design.md §6: the ceiling is the median of >= 5 repeats
CEILING_REPEATS = 9  # ours: a shared machine's bandwidth moves by half within seconds
ROOFLINE_WARN_PERCENT = 100.0  # docs/design.md §6: 100-115 % warns
ROOFLINE_INVALID_PERCENT = 115.0  # docs/design.md §6: over 115 % of the highest repeat invalidates
CACHE_MULTIPLE = 4  # docs/design.md §6: null when the weights fit in 4x the last-level cache
BYTES_PER_WEIGHT: Mapping[Kernel, tuple[float, float]] = {
    "int4": (0.5, 0.75),  # ours: the codes alone; with scales, zero points and padding of a layout
    "fp16": (2.0, 4.4),  # ours: stored in fp16; streamed as fp32 where that is faster, and padded
    "open": (2.0, 4.4),  # ours: the open track's model in the same engine, as fp16
}
SPARSE_PATH = "w4a16-2:4"  # ours: two codes of every four are stored, kernels/README.md
SPARSE_BYTES_PER_WEIGHT = 0.375  # ours: two 4-bit codes and two 2-bit places for four weights
PADDED_TO = (64, 32)  # ours: kernels/csrc/cpu/pack.h lays out 64 rows at a time, 32 inputs

# Power.
METER_DISAGREEMENT = 0.10  # ours: two meters of the same thing that differ by more are both shown
PHASE_MIN_S = 1.0  # ours: ten updates of a 10 Hz meter; shorter phases are not told apart
IDLE_S: Mapping[ProfileName, float] = {  # ours: a 10 Hz meter's 20 and 100 readings of no work
    "quick": 2.0,
    "standard": 10.0,
    "official": 10.0,
}

# Conditions.
CLOCK_SHARE = 0.75  # nvbench's default threshold: below it a GPU is not at its clock
LOAD_PER_CORE = 0.2  # ours: a busier machine shares its caches and memory with something
SUSTAINED_MIN_S = 120.0  # ours: a run long enough to heat up
COLD_S, SUSTAINED_S = 30.0, 60.0  # ours: its first and its last stretch

# Arithmetic of the checker.
RELATIVE_TOLERANCE = 1e-9  # ours: one derivation runs twice; only the JSON round trip differs


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one (profile, size class, scenario) demands of every kernel."""

    min_queries: int
    min_duration_s: float
    samples_per_round: int | None
    """The least, and multiples of it; None: the whole scored set; always None in single-stream."""
    scored_on: ScoredOn
    nll_samples: int | None
    """How many samples the call's likelihood covers; None: the whole scored set."""
    equal_issue: bool = False
    """Whether a kernel ends only after whole passes over the scored set (rule D-10)."""

    def blocks_each_last(self, *, is_metered: bool) -> bool:
        """Whether a block must last on the fastest kernel, not on the slowest alone."""
        return is_metered or self.min_duration_s > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRules:
    """One profile: its stamps and its counts; every profile alternates blocks of `min_block_s`."""

    name: ProfileName
    stamps: tuple[str, ...]
    min_block_s: float
    counts_by_case: Mapping[tuple[SizeClass, Scenario], Counts]

    def counts(self, workload: str, scenario: Scenario) -> Counts:
        """Return what this profile demands of one workload in one scenario."""
        return self.counts_by_case[size_class(workload), scenario]


def stamps_of(
    profile: ProfileName, *, is_external: bool, is_simulated: bool = False
) -> tuple[str, ...]:
    """Return the stamps that a bundle must carry: its profile's, and what else it is."""
    external = (EXTERNAL_STAMP,) if is_external else ()
    simulated = (SIMULATED_STAMP,) if is_simulated else ()
    return PROFILES[profile].stamps + external + simulated


def size_class(workload: str) -> SizeClass:
    """Tell a widened (`name@size`) or brought (`llm`) workload from an embedded one."""
    return "large" if "@" in workload or workload == "llm" else "embedded"


def is_widened(workload: str) -> bool:
    """Whether the workload's model is a function-preserving expansion of an embedded one."""
    return "@" in workload


def accuracy_targets(track: Track) -> tuple[float, float] | None:
    """Return the (gate, high-accuracy) ratios; None in the open track, which reports only."""
    return (ACCURACY_TARGET, HIGH_ACCURACY_TARGET) if track == "closed" else None


def _single(queries: int, duration_s: float, scored_on: ScoredOn, nll: int | None) -> Counts:
    return Counts(
        min_queries=queries,
        min_duration_s=duration_s,
        samples_per_round=None,
        scored_on=scored_on,
        nll_samples=nll,
    )


def _official(min_queries: int) -> Counts:
    """600 s, the whole scored set in every pass or round, everything scored.

    MLPerf's mlperf.conf sets sample_concatenate_permutation for every language model, because
    inputs and outputs differ in length; its rules' text does not name it. LoadGen then issues whole
    permutations: Offline's query is padded to a multiple of the set (loadgen.cc), SingleStream's
    count too (test_settings_internal.cc). Read at mlcommons/inference b66003e1.
    """
    return Counts(
        min_queries=min_queries,
        min_duration_s=OFFICIAL_DURATION_S,
        samples_per_round=None,
        scored_on="scored-set",
        nll_samples=None,
        equal_issue=True,
    )


def _offline(size: int | None, duration_s: float, scored_on: ScoredOn, nll: int | None) -> Counts:
    return Counts(
        min_queries=MIN_ROUNDS,
        min_duration_s=duration_s,
        samples_per_round=size,
        scored_on=scored_on,
        nll_samples=nll,
    )


PROFILES: Mapping[ProfileName, ProfileRules] = {
    "quick": ProfileRules(
        name="quick",
        stamps=(DURATION_STAMP,),
        min_block_s=MIN_BLOCK_S,
        counts_by_case={  # the main job's counts: a first leaderboard within 6 minutes on 2 cores
            ("embedded", "single-stream"): _single(512, 0.0, "scored-set", None),
            ("embedded", "offline"): _offline(None, 0.0, "scored-set", None),
            ("large", "single-stream"): _single(128, 0.0, "performance-outputs", 64),
            ("large", "offline"): _offline(64, 0.0, "performance-outputs", 64),
        },
    ),
    "standard": ProfileRules(
        name="standard",
        stamps=(DURATION_STAMP,),  # 60 s is a tenth of MLPerf's minimum, so it is stamped too
        min_block_s=MIN_BLOCK_S,
        counts_by_case={  # 1,024 queries: MLPerf v0.5-v1.1 mlperf.conf SingleStream.min_query_count
            ("embedded", "single-stream"): _single(1024, 60.0, "scored-set", None),
            ("embedded", "offline"): _offline(None, 60.0, "scored-set", None),
            ("large", "single-stream"): _single(1024, 60.0, "scored-set", None),
            ("large", "offline"): _offline(None, 60.0, "scored-set", None),
        },
    ),
    "official": ProfileRules(
        name="official",
        stamps=(),
        min_block_s=MIN_BLOCK_S,
        counts_by_case={  # offline: inference_rules.adoc asks for min(24,576, data set) samples
            ("embedded", "single-stream"): _official(OFFICIAL_QUERIES),
            ("embedded", "offline"): _official(MIN_ROUNDS),
            ("large", "single-stream"): _official(OFFICIAL_QUERIES),
            ("large", "offline"): _official(MIN_ROUNDS),
        },
    ),
}
