"""The distill step: the shipped student or a folder's, verified, named by its tensors."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from safetensors.numpy import load_file, save_file

from edgebench.errors import AssetError, BenchError, RuleViolation, SpecError
from edgebench.open_model import describe, not_closed, shape_of
from edgebench.record import Ledger
from edgebench.spec import RunOptions, parse_run
from edgebench.transform import parse_transform
from edgebench.transform.changed import ChangedModel, changed_once
from edgebench.transform.distill import named_by
from edgebench.transform.students import given, named, tensors_sha256
from edgebench_kernels.engine import read_config
from edgebench_workloads.cache import cache_root
from tests.harness.checker.tiny_llama import TinyWorld
from tests.harness.checker.tiny_open import source_of
from tests.harness.checker.tiny_student import write_cost, write_student

pytestmark = pytest.mark.torch


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyWorld:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    return TinyWorld.write(tmp_path / "world")


def made_of(world: TinyWorld, folder: Path, rest: str = "") -> ChangedModel:
    chain = named(parse_transform(f"distill:student={folder}{rest}"))
    return changed_once(chain.changes, source_of(world))


def test_the_shipped_student_takes_the_model_s_place(world: TinyWorld, tmp_path: Path) -> None:
    student = write_student(tmp_path / "student")
    source = replace(source_of(world), student=student)
    made = changed_once(parse_transform("distill").changes, source)
    (step,) = made.made.steps
    assert step.parameters["student"] == "shipped"
    assert (step.before_sha256, step.after_sha256) == ("a" * 64, tensors_sha256(student))
    (cost,) = made.made.training
    assert (cost.examples, cost.steps, cost.cpu_s, cost.device) == (640, 10, 30.0, "cpu")
    assert cost.student_sha256 == student.weights_sha256
    assert made.shape().layers == 1
    for name, array in load_file(student.directory / "model.safetensors").items():
        np.testing.assert_array_equal(made.arrays()[name], array)


def test_what_bars_it_from_closed_is_told(world: TinyWorld, tmp_path: Path) -> None:
    student = write_student(tmp_path / "student")
    made = changed_once(
        parse_transform("distill").changes, replace(source_of(world), student=student)
    )
    ledger = Ledger(
        reference_sha256="a" * 64,
        steps=made.made.steps,
        tensors={},
        graph_sha256="5" * 64,
        open_model=describe(made.shape(), (), made.arrays(), made.made.training),
    )
    told = not_closed(ledger, shape_of(read_config(world.folder / "config.json")))
    assert [reason[:4] for reason in told] == ["W-07", "W-03", "W-03", "W-04"]
    assert told[-1] == "W-04: trained on 640 examples (10 steps)"


def test_a_folder_stays_out_of_the_record(world: TinyWorld, tmp_path: Path) -> None:
    student = write_student(tmp_path / "student")
    chain = named(parse_transform(f"distill:student={tmp_path / 'student'} + rtn"))
    assert str(chain) == f"distill:student=sha256:{tensors_sha256(student)[:12]}+rtn"
    assert str(parse_transform(str(chain))) == str(chain)
    made = made_of(world, tmp_path / "student")
    assert made.made.steps[0].parameters["student"] == chain.steps[0].parameters["student"]


def test_a_record_s_name_is_no_folder(world: TinyWorld) -> None:
    steps = named(parse_transform("distill:student=sha256:0123456789ab")).changes
    with pytest.raises(SpecError, match=r"expected the folder of the student.*--student FOLDER"):
        changed_once(steps, source_of(world))


def test_a_student_that_was_used_is_found_by_its_name_alone(
    world: TinyWorld, tmp_path: Path
) -> None:
    folder = tmp_path / "student"
    name = named_by(tensors_sha256(write_student(folder)))
    by_name = f"distill:student={name}"
    assert named(parse_transform(by_name)).steps[0].folder is None
    first = made_of(world, folder)
    shutil.rmtree(folder)
    chain = named(parse_transform(by_name))
    assert str(chain) == by_name
    again = changed_once(chain.changes, source_of(world))
    assert again.made.steps == first.made.steps
    # What was altered there is not that student any more.
    (weights,) = (cache_root() / "students").glob("*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    assert named(parse_transform(by_name)).steps[0].folder is None


def test_a_folder_is_given_for_the_student_of_a_record(tmp_path: Path) -> None:
    folder, other = tmp_path / "student", tmp_path / "other"
    name = named_by(tensors_sha256(write_student(folder)))
    write_student(other, intermediate_size=64)
    chain = parse_transform(f"distill:student={name}+rtn")
    found = given(chain, folder)
    assert (str(found), found.steps[0].folder) == (str(chain), folder)
    assert str(given(chain, None)) == str(chain)
    with pytest.raises(
        SpecError, match=r"\[--student\] expected a student of the chain.*got sha256"
    ):
        given(chain, other)
    with pytest.raises(SpecError, match="leave --student out"):
        given(parse_transform("prune:layers=1"), folder)


def test_a_workload_without_a_student_asks_for_a_folder(world: TinyWorld) -> None:
    with pytest.raises(SpecError, match="a workload that ships a student"):
        changed_once(parse_transform("distill").changes, source_of(world))


def test_a_student_can_be_cut_and_tuned(world: TinyWorld, tmp_path: Path) -> None:
    write_student(tmp_path / "student")
    rest = "+prune:units=0.333333333+finetune:steps=2,batch=2"
    made = made_of(world, tmp_path / "student", rest)
    assert (made.shape().layers, made.shape().intermediate_size) == (1, 64)
    assert len(made.made.training) == 2


def test_it_comes_first() -> None:
    with pytest.raises(SpecError, match="expected distill first"):
        parse_transform("prune:units=0.25+distill")


def no_file(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def altered(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")


def of_another(folder: Path) -> None:
    write_cost(folder, teacher_sha256="b" * 64)


def other_words(folder: Path) -> None:
    write_student(folder, vocab_size=48)


def other_shape(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intermediate_size": 64}))


def no_number(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = np.nan
    save_file(tensors, folder / "model.safetensors")
    write_cost(folder)


def single(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    wide = {name: array.astype(np.float32) for name, array in tensors.items()}
    save_file(wide, folder / "model.safetensors")
    write_cost(folder)


@pytest.mark.parametrize(
    ("spoil", "kind", "match"),
    [
        (no_file, SpecError, "it is missing"),
        (altered, SpecError, "altered"),
        (of_another, SpecError, "expected a student of the reference"),
        (other_words, SpecError, "vocabulary of 50 tokens, got 48"),
        (other_shape, SpecError, "must have shape"),
        (no_number, AssetError, "expected finite weights, got others in model.norm.weight"),
        (single, SpecError, "expected fp16 weights, got float32"),
    ],
)
def test_a_wrong_student_is_refused(
    world: TinyWorld, tmp_path: Path, spoil: object, kind: type[BenchError], match: str
) -> None:
    write_student(tmp_path / "student")
    assert callable(spoil)
    spoil(tmp_path / "student")
    with pytest.raises(kind, match=match):
        made_of(world, tmp_path / "student")


def test_no_folder_and_the_closed_track_are_refused_at_once(tmp_path: Path) -> None:
    there = RunOptions(track="open", workload="assistant", transform=f"distill:student={tmp_path}")
    with pytest.raises(SpecError, match="expected what a student's training cost"):
        parse_run(there)
    with pytest.raises(SpecError, match="which is none"):
        parse_run(replace(there, transform=f"distill:student={tmp_path}/none"))
    with pytest.raises(RuleViolation, match="W-07"):
        parse_run(replace(there, track="closed"))
