"""O-06: an honest student passes, and whatever is not the named student is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from edgebench.checker.known import known_student
from edgebench.transform.students import tensors_sha256
from edgebench_workloads.students import Student
from tests.harness.checker.conftest import Maker
from tests.harness.checker.edits import Case, Edit, assert_found, case_id
from tests.harness.checker.test_open_track import retell, training
from tests.harness.checker.tiny_llama import TinyWorld
from tests.harness.checker.tiny_open import submit_open
from tests.harness.checker.tiny_student import write_student

pytestmark = pytest.mark.torch

ROUNDED = "distill+rtn:group=32"
LINEAR = "model.layers.0.mlp.up_proj"
CHAINS = (
    "distill",
    ROUNDED,
    "distill+awq:group=32,samples=12",
    "distill+gptq:group=32,samples=12",
    "distill+prune:wanda=2:4+rtn:group=32",
    "distill+finetune:steps=2,batch=2+rtn:group=32",
)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyWorld:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    return TinyWorld.write(tmp_path / "world")


@pytest.fixture
def student(tmp_path: Path) -> Student:
    return write_student(tmp_path / "student")


def submit(maker: Maker, world: TinyWorld, student: Student, chain: str) -> None:
    """File what the chain makes, checked by one who ships that student."""
    known = known_student(student, world.sequences)
    maker.workload = replace(maker.workload, student=known)
    submit_open(maker, world, chain, student)


@pytest.mark.parametrize("chain", CHAINS)
def test_honest_students_pass(maker: Maker, world: TinyWorld, student: Student, chain: str) -> None:
    submit(maker, world, student, chain)
    assert maker.findings() == []


@pytest.mark.parametrize("rest", ["", "+rtn:group=32"])
def test_a_student_of_one_s_own_passes(
    maker: Maker, world: TinyWorld, student: Student, rest: str
) -> None:
    submit_open(maker, world, f"distill:student={student.directory}{rest}", None)
    assert tensors_sha256(student)[:12] in maker.transform
    assert maker.findings() == []


def test_another_student_under_the_shipped_one_s_name(
    maker: Maker, world: TinyWorld, student: Student, tmp_path: Path
) -> None:
    other = write_student(tmp_path / "other", intermediate_size=64)
    maker.workload = replace(maker.workload, student=known_student(student, world.sequences))
    submit_open(maker, world, "distill", other)
    assert {found.rule_id for found in maker.findings()} == {"O-06", "S-07"}


def one_code(maker: Maker) -> None:
    """One weight of the INT4 student is another, with every hash made to fit."""
    maker.tensors[LINEAR].qweight[0, 0] ^= 8
    maker.rehash()


def one_value(maker: Maker) -> None:
    """One filed fp16 value is another."""
    name = "model.embed_tokens.weight"
    maker.kept[name] = maker.kept[name].copy()
    maker.kept[name][0, 0] += np.float16(1)


def called(name: str) -> Edit:
    def edit(maker: Maker) -> None:
        step = maker.ledger["steps"][0]
        step["parameters"]["student"] = name
        maker.result("int4")["transform"] = f"distill:student={name}+rtn:group=32"
        retell(maker)

    return edit


def of_another_shape(maker: Maker) -> None:
    maker.ledger["steps"][0]["parameters"]["layers"] = 2
    retell(maker)


def nonsense(maker: Maker) -> None:
    maker.ledger["steps"][0]["parameters"]["layers"] = "two"
    retell(maker)


CASES: tuple[Case, ...] = (
    ("O-06", one_code, {"O-06", "O-02", "S-07"}),
    ("O-06", one_value, {"O-06", "O-01", "S-07"}),
    ("O-06", training(cpu_s=1.0), {"O-06", "S-07"}),
    ("O-06", training(steps=20), {"O-06", "O-05", "S-07"}),
    ("O-04", training(student_sha256=None), {"O-04", "O-06", "S-07"}),
    ("O-06", called("sha256:0123456789ab"), {"O-06", "S-07"}),
    ("O-03", of_another_shape, {"O-03", "S-07"}),
    ("O-03", nonsense, {"O-03", "S-07"}),
)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_smallest_failing_bundle(
    maker: Maker, world: TinyWorld, student: Student, case: Case
) -> None:
    submit(maker, world, student, ROUNDED)
    assert_found(maker, case)
