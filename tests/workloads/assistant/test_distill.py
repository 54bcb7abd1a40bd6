"""Distillation: a step lowers the loss, resume changes nothing, the student is what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from edgebench_workloads.assistant import distill, train  # noqa: E402
from edgebench_workloads.errors import WorkloadAssetError  # noqa: E402
from edgebench_workloads.students import read_student, shipped_student  # noqa: E402
from edgebench_workloads.weights import sha256_of  # noqa: E402

SHIPPED = Path(distill.__file__).parent


@pytest.fixture(scope="module", autouse=True)
def small_and_restored() -> Iterator[None]:
    """Few validation examples and a short tokenizer corpus; the thread count as it was."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "VALIDATION_COUNT", 6)
        patch.setattr(train, "TRAINING_PAIRS", 5000)
        patch.setattr(distill, "VALIDATION_COUNT", 6)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> distill.Settings:
    """A reference of four layers that has hardly learnt, to be distilled into two."""
    out = tmp_path_factory.mktemp("reference")
    settings = train.Settings(
        out=out,
        steps=8,
        batch=4,
        threads=1,
        workers=0,
        every_steps=8,
        hidden=32,
        layers=4,
        peak_rate=1e-2,
    )
    train.train(settings)
    return distill.Settings(
        out=Path(), reference=out / "latest", layers=2, steps=16, batch=4, threads=1, workers=0,
        every_steps=4, peak_rate=1e-2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tiny: distill.Settings, tmp_path_factory: pytest.TempPathFactory) -> distill.Run:
    return distill.distill(replace(tiny, out=tmp_path_factory.mktemp("whole")))


def assert_same_weights(first: distill.Run, second: distill.Run) -> None:
    weights = second.student.state_dict()
    for name, tensor in first.student.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def test_resume_gives_the_weights_of_an_uninterrupted_run(
    finished: distill.Run, tiny: distill.Settings, tmp_path: Path
) -> None:
    distill.distill(replace(tiny, out=tmp_path, stop_after=3))
    resumed = distill.distill(replace(tiny, out=tmp_path, resume=True))
    assert (resumed.step, resumed.losses) == (16, finished.losses)
    assert_same_weights(resumed, finished)


def test_who_draws_the_examples_changes_nothing(
    finished: distill.Run, tiny: distill.Settings, tmp_path: Path
) -> None:
    other = distill.distill(replace(tiny, out=tmp_path, workers=1))
    assert other.losses == finished.losses
    assert other.cpu_seconds > 0


def test_a_step_lowers_the_loss_on_its_batch(tiny: distill.Settings, tmp_path: Path) -> None:
    settings = replace(tiny, out=tmp_path)
    run = distill.start_run(settings)
    batch = next(distill.batches(distill.load_tokenizer(settings.reference), run, settings))
    losses = [distill.train_step(run, settings, *batch) for _ in range(12)]
    assert losses[-1] < losses[0]


def test_the_student_begins_as_the_layers_of_its_reference(tiny: distill.Settings) -> None:
    run = distill.start_run(tiny)
    for place, layer in enumerate((0, 3)):
        own = run.student.model.layers[place].mlp.up_proj.weight
        assert torch.equal(own.bfloat16(), run.teacher.model.layers[layer].mlp.up_proj.weight)


@pytest.mark.parametrize(("of", "count", "kept"), [(6, 3, [0, 2, 5]), (4, 2, [0, 3])])
def test_layers_are_evenly_chosen(of: int, count: int, kept: list[int]) -> None:
    assert distill.chosen_layers(of, count) == kept


@pytest.mark.parametrize("count", [1, 6])
def test_a_student_has_fewer_layers_and_both_ends(count: int) -> None:
    with pytest.raises(ValueError, match=r"--layers to be 2\.\.5"):
        distill.chosen_layers(6, count)


def test_equal_logits_leave_the_cross_entropy_alone() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
    answers = torch.tensor([0, 6, 2, 2, 1])
    hard = torch.nn.functional.cross_entropy(logits, answers)
    came = distill.loss_of(logits, logits, answers)
    assert came == pytest.approx(distill.HARD_SHARE * float(hard), rel=1e-5)
    assert distill.loss_of(logits + 3 * logits.flip(1), logits, answers) > came


def test_resume_without_a_checkpoint_says_what_is_missing(
    tiny: distill.Settings, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="--resume needs"):
        distill.distill(replace(tiny, out=tmp_path, resume=True))


def test_what_it_cost_is_written_beside_it(tiny: distill.Settings, tmp_path: Path) -> None:
    distill.distill(replace(tiny, out=tmp_path))
    student = read_student(tmp_path / "student")
    cost = student.cost
    assert (cost.examples, cost.steps, cost.device) == (64, 16, "cpu")
    assert cost.cpu_minutes > 0
    assert cost.teacher_sha256 == sha256_of(tiny.reference / "model.safetensors")
    assert [p["step"] for p in json.loads((tmp_path / "learning_curve.json").read_text())] == [
        4, 8, 12, 16,
    ]  # fmt: skip


def test_an_altered_student_is_refused(tiny: distill.Settings, tmp_path: Path) -> None:
    distill.distill(replace(tiny, out=tmp_path, stop_after=1))
    path = tmp_path / "student" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(WorkloadAssetError, match="altered"):
        read_student(tmp_path / "student")


@pytest.mark.parametrize(
    ("change", "match"),
    [({"examples": 65}, "steps x batch"), ({"steps": "many"}, "steps"), ({"more": 1}, "more")],
)
def test_a_malformed_cost_is_refused(
    tiny: distill.Settings, tmp_path: Path, change: dict[str, object], match: str
) -> None:
    distill.distill(replace(tiny, out=tmp_path, stop_after=1))
    path = tmp_path / "student" / "training.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(WorkloadAssetError, match=match):
        read_student(tmp_path / "student")


def test_the_shipped_student_is_the_reference_s() -> None:
    student = shipped_student(SHIPPED)
    assert student is not None
    assert student.cost.teacher_sha256 == sha256_of(SHIPPED / "model" / "model.safetensors")
    assert (student.directory / "model.safetensors").stat().st_size <= 8_000_000
    assert student.cost.steps == student.cost.planned_steps
