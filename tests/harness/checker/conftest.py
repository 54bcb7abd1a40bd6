"""A factory of small synthetic bundles: a tiny workload, two kernels, every number derived."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save

from edgebench.answers import AnswerKey
from edgebench.checker import KnownWorkload, check
from edgebench.checker.schedule import RULEBOOK_SEEDS
from edgebench.derive import CaseFacts, KernelFacts, block_windows, derive_ceilings, derive_results
from edgebench.errors import SpecError
from edgebench.findings import Finding
from edgebench.loadgen import sample_schedule
from edgebench.meters import Source, integrate
from edgebench.meters.powercsv import HEADER
from edgebench.profiles import PROFILES
from edgebench.record import CeilingRow, Energy, NllRow, SampleRow
from edgebench.roofline import model_of
from edgebench.transform.quantized import model_sha256
from edgebench_kernels.formats import Int4Tensor, tensor_sha256
from edgebench_kernels.quantize import quantize_rtn
from tests.harness.checker.sealed import seal as seal
from tests.harness.checker.sealed import tensors_bytes as tensors_bytes

NAME = "assistant@tiny"
SCORED = 64
EOS = 2
VOCABULARY = 64
MAX_NEW_TOKENS = 8
PROMPT_TOKENS = 5
LATENCY_NS = {"fp16": 40_000_000, "int4": 10_000_000}
MS = 1_000_000
SHAPES = {"lm_head": (32, 64), "model.layers.0.mlp.up_proj": (64, 64)}
WEIGHTS = sum(n * k for n, k in SHAPES.values())


SYSTEM: dict[str, Any] = {
    "name": "box",
    "cpu": {
        "model": "test CPU",
        "cores_online": 2,
        "cores_usable": 2,
        "isa": "scalar",
        "flags": [],
        "last_level_cache_bytes": 1000,
    },
    "memory": {},
    "gpus": [],
    "kernel": {},
    "software": {"packages": {"numpy": "2"}, "command": "bench run", "environment": {}},
    "unknown": {},
}


class LetterDecoder:
    """Token id i is the letter i places after '0'."""

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return "".join(chr(48 + i) for i in ids)


@dataclass(frozen=True)
class SeededReference:
    """Linear layers drawn from a fixed seed."""

    sha256: str = "a" * 64
    convolutions: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(SHAPES))

    def weight(self, name: str) -> npt.NDArray[np.float16]:
        draw = np.random.default_rng(len(name))
        return draw.normal(0, 0.05, SHAPES[name]).astype(np.float16)


def answer_ids(sample: int) -> list[int]:
    return [3 + sample % 50, 5, 6, EOS]


def workload(**changes: Any) -> KnownWorkload:
    """What the checker knows of the tiny workload."""
    facts: dict[str, Any] = {
        "name": NAME,
        "closed_only": True,
        "task_sha256": "1" * 64,
        "reference_sha256": "a" * 64,
        "scored_sha256": "2" * 64,
        "calibration_sha256": "3" * 64,
        "graph_sha256": "4" * 64,
        "prompt_tokens": [PROMPT_TOKENS] * SCORED,
        "call_tokens": [4] * SCORED,
        "calibration_overlap": 0,
        "answers": AnswerKey(
            decoder=LetterDecoder(),
            eos_id=EOS,
            expected=[LetterDecoder().decode(answer_ids(i)[:-1]) for i in range(SCORED)],
            is_correct=str.__eq__,
        ),
        "eos_id": EOS,
        "vocabulary": VOCABULARY,
        "max_new_tokens": MAX_NEW_TOKENS,
        "reference": SeededReference(),
        "shapes": SHAPES,
    }
    return KnownWorkload(**{**facts, **changes})


@dataclass
class Maker:
    """A valid bundle in memory; change any part, then `write` seals it with fresh checksums."""

    root: Path
    scenario: str = "single-stream"
    record: dict[str, Any] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    nll: list[dict[str, Any]] = field(default_factory=list)
    ceilings: list[dict[str, Any]] = field(default_factory=list)
    ledger: dict[str, Any] = field(default_factory=dict)
    system: dict[str, Any] = field(default_factory=lambda: deepcopy(SYSTEM))
    tensors: dict[str, Int4Tensor] = field(default_factory=dict)
    power: str = HEADER + "\n"
    with_tensors_file: bool = True
    is_hashed: bool = True
    """Whether `write` adds the hashes of the timed weights that an honest run has."""
    beside: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    """What int4.safetensors holds beside the tensors."""
    metadata: dict[str, str] | None = None
    folded: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    workload: KnownWorkload = field(default_factory=workload)
    candidate: str = "int4"
    extra_facts: dict[str, Any] = field(default_factory=dict)
    weights: int = WEIGHTS
    transform: str = "rtn"
    kept: dict[str, npt.NDArray[np.float16]] = field(default_factory=dict)
    """What open.safetensors holds; no file where it is empty."""
    candidate_shapes: Mapping[str, tuple[int, int]] | None = None
    """Of an open model that is not the reference's."""

    def __post_init__(self) -> None:
        self.tensors = {n: quantize_rtn(SeededReference().weight(n), 64) for n in SHAPES}
        self._measure()
        self.ledger = {
            "reference_sha256": "a" * 64,
            "steps": [
                {
                    "transform": "rtn",
                    "parameters": {"bits": 4, "group": 128, "symmetric": False},
                    "before_sha256": "a" * 64,
                    "after_sha256": "0" * 64,
                    "calibration_sha256": None,
                }
            ],
            "tensors": {},
            "tensors_file": "int4.safetensors",
            "graph_sha256": "4" * 64,
        }
        self.rehash()
        self.record = self._draft()
        self.derive()

    # ------------------------------------------------------------------------------ measuring

    def _measure(self) -> None:
        order = sample_schedule(RULEBOOK_SEEDS.sample_index, SCORED, 6 * SCORED, distinct=True)
        now = 1_000
        rounds, size = 6, 64
        self._ceilings(now)
        for block in range(rounds):
            kernels = ("fp16", "int4") if block % 2 == 0 else ("int4", "fp16")
            span = range(block * size, (block + 1) * size)
            for kernel in kernels:
                if self.scenario == "single-stream":
                    now = self._queries(kernel, block, span, order, now)
                else:
                    now = self._round(kernel, block, span, order, now)
                self._ceilings(now)
                now += 10 * MS
        for _ in range(4):
            self._ceilings(now)
        self.nll = [
            {"kernel": kernel, "sample": i, "nll_nats": 0.2 + 0.001 * i, "tokens": 4}
            for kernel in ("fp16", "int4")
            for i in range(SCORED)
        ]

    def _row(
        self, kernel: str, block: int, query: int, sample: int, times: tuple[int, int, int]
    ) -> dict[str, Any]:
        return {
            "kernel": kernel,
            "mode": "performance",
            "block": block,
            "query": query,
            "sample": sample,
            "issued_ns": times[0],
            "first_token_ns": times[1],
            "completed_ns": times[2],
            "output_ids": answer_ids(sample),
        }

    def _queries(self, kernel: str, block: int, span: range, order: Sequence[int], now: int) -> int:
        for query in span:
            latency = LATENCY_NS[kernel] + 1_000 * (query % 7)
            times = (now, now + latency // 4, now + latency)
            self.samples.append(self._row(kernel, block, query, order[query % len(order)], times))
            now += latency + 500
        return now

    def _round(self, kernel: str, block: int, span: range, order: Sequence[int], now: int) -> int:
        for place, position in enumerate(span):
            done = now + (place + 1) * LATENCY_NS[kernel]
            times = (now, done - MS, done)
            sample = order[position % len(order)]
            self.samples.append(self._row(kernel, block, block, sample, times))
        return done

    def _ceilings(self, now: int) -> None:
        values = {"read_bandwidth": 2e6, "int8": 1e8, "fp32": 2e7}
        for ceiling, value in values.items():
            self.ceilings.append(
                {
                    "ceiling": ceiling,
                    "instruction": f"best-{ceiling}",
                    "threads": 2,
                    "taken_ns": now,
                    "value": value,
                }
            )

    # ------------------------------------------------------------------------------ publishing

    def rehash(self) -> None:
        """Make the ledger name the tensors as they are."""
        self.ledger["tensors"] = {n: tensor_sha256(t) for n, t in self.tensors.items()}
        self.ledger["steps"][-1]["after_sha256"] = model_sha256(self.tensors)

    def _draft(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "run_id": "run-1",
            "complete": True,
            "track": "closed",
            "organisation": "tester",
            "system": "box",
            "workload": {
                "name": self.workload.name,
                "disclosure": None,
                "task_sha256": "1" * 64,
                "reference_sha256": "a" * 64,
                "scored_sha256": "2" * 64,
                "calibration_sha256": "3" * 64,
            },
            "scenario": self.scenario,
            "profile": "quick",
            "stamps": list(PROFILES["quick"].stamps),
            "seeds": RULEBOOK_SEEDS.model_dump(),
            "host": {
                "device_requested": "auto",
                "device": "cpu",
                "executed_on": "test CPU",
                "last_level_cache_bytes": 1000,
                "threads": 2,
                "other_runs_seen": False,
            },
            "conditions": {
                "period_s": 0.5,
                "readings": 9,
                "covers_part": False,
                "sees_throttling": True,
            },
            "ceilings": [],
            "results": [],
            "provenance": {
                "tool_version": "0.1.0",
                "git_commit": None,
                "git_dirty": None,
                "command": "bench run",
                "started_utc": "2026-01-01T00:00:00Z",
                "finished_utc": None,
            },
        }

    def derive(self, **facts: Any) -> None:
        """Publish what the rows give, as the runner would; `facts` change what rows cannot say."""
        self.extra_facts.update(facts)
        rows = [SampleRow(**row) for row in self.samples]
        ceilings = [CeilingRow(**row) for row in self.ceilings]
        case = CaseFacts(
            track=self.record["track"],
            workload=self.record["workload"]["name"],
            scenario=self.record["scenario"],
            profile=self.record["profile"],
            scored_count=self.workload.scored_count,
            prompt_tokens=self.workload.prompt_tokens,
            model=model_of(self.workload.shapes),
            last_level_cache_bytes=self.record["host"]["last_level_cache_bytes"],
            candidate_model=model_of(self.candidate_shapes or self.workload.shapes),
        )
        results = derive_results(
            case,
            [self._facts("fp16", rows), self._facts(self.candidate, rows)],
            samples=rows,
            nll=[NllRow(**row) for row in self.nll],
            ceilings=ceilings,
            is_right=self.workload.answers.is_right,
        )
        self.record["results"] = [json.loads(result.model_dump_json()) for result in results]
        medians = derive_ceilings(ceilings)
        self.record["ceilings"] = [median.model_dump() for median in medians]

    def _facts(self, kernel: str, rows: list[SampleRow]) -> KernelFacts:
        is_reference = kernel == "fp16"
        weights = self.weights
        if not is_reference and self.candidate_shapes is not None:
            weights = sum(n * k for n, k in self.candidate_shapes.values())
        facts: dict[str, Any] = {
            "kernel": kernel,
            "executed_path": "fp32" if is_reference else "w4a16/test",
            "transform": "none" if is_reference else self.transform,
            "batch_size": 1 if self.scenario == "single-stream" else 16,
            "weight_bytes": weights * 35 // 64 if kernel == "int4" else 2 * weights,
            "peak_memory_bytes": None,
            "arithmetic": "fp32" if is_reference else "int8",
            "energy": Energy(status="unmeasured", reason="no meter in the test"),
        }
        if kernel == "external":
            facts |= {"executed_path": "openai /v1/completions, fake/1, model tiny"}
            facts |= {"transform": "unknown", "weight_bytes": None, "arithmetic": None}
        if self.power.count("\n") > 1:
            path = self.root / "power.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.power)
            windows = block_windows(rows, facts["kernel"])
            facts["energy"] = integrate(
                path, windows, source=Source(meter="rapl", domain="package-0")
            )
            path.unlink()
        return KernelFacts(**{**facts, **self.extra_facts})

    def result(self, kernel: str) -> dict[str, Any]:
        """Return one published result, to be edited."""
        found: dict[str, Any] = next(r for r in self.record["results"] if r["kernel"] == kernel)
        return found

    def _hashed(self) -> dict[str, Any]:
        """The record with the hashes of what was timed, as long as nothing says otherwise."""
        record, steps = deepcopy(self.record), self.ledger["steps"]
        for result in record["results"]:
            size = result["weight_bytes"]
            if result["kernel"] == "int4" and self.is_hashed and steps and size:
                result["timed_weights"] = result["timed_weights"] or {
                    "model_sha256": steps[-1]["after_sha256"],
                    "before_sha256": "7" * 64,
                    "after_sha256": "7" * 64,
                    "packed_bytes": max(0, size - 128),
                }
        return record

    # ------------------------------------------------------------------------------ filing

    @property
    def path(self) -> Path:
        """Where the record says that the bundle belongs."""
        record = self.record
        names = (record["track"], record["organisation"], record["system"])
        folder = self.root.joinpath(*names, record["workload"]["name"], record["scenario"])
        return folder / str(record["run_id"])

    def write(self) -> Path:
        """Write and seal the bundle; return its folder."""
        folder = self.path
        folder.mkdir(parents=True)
        for name, value in (
            ("record.json", self._hashed()),
            ("ledger.json", self.ledger),
            ("system.json", self.system),
        ):
            (folder / name).write_text(json.dumps(value))
        for name, rows in (
            ("samples.jsonl", self.samples),
            ("nll.jsonl", self.nll),
            ("ceilings.jsonl", self.ceilings),
        ):
            (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "power.csv").write_text(self.power)
        if self.with_tensors_file:
            (folder / "int4.safetensors").write_bytes(
                tensors_bytes(self.tensors, self.beside, self.metadata)
            )
        if self.kept:
            (folder / "open.safetensors").write_bytes(save(self.kept))
        if self.folded:
            (folder / "folded.safetensors").write_bytes(save(self.folded))
        seal(folder)
        return folder

    def findings(self, **options: Any) -> list[Finding]:
        """Write the bundle and check it."""
        return check(self.write(), lookup=self.lookup, **options)

    def lookup(self, name: str) -> KnownWorkload:
        """Stand for the catalog: it holds the tiny workload alone."""
        if name != self.workload.name:
            raise SpecError(f"[test] expected {self.workload.name}, got {name}")
        return self.workload


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Maker]:
    """One maker per scenario, derived once; tests take copies."""
    root = tmp_path_factory.mktemp("template")
    return {name: Maker(root, scenario=name) for name in ("single-stream", "offline")}


def _copy(template: Maker, root: Path) -> Maker:
    own = deepcopy(template)
    own.root = root
    return own


@pytest.fixture
def maker(templates: Mapping[str, Maker], tmp_path: Path) -> Maker:
    """A valid single-stream bundle, not yet written."""
    return _copy(templates["single-stream"], tmp_path / "tree")


@pytest.fixture
def offline(templates: Mapping[str, Maker], tmp_path: Path) -> Maker:
    """A valid offline bundle, not yet written."""
    return _copy(templates["offline"], tmp_path / "tree")


@pytest.fixture
def resealed() -> Callable[[Path], None]:
    """Write fresh checksums, as a forger would."""
    return seal
