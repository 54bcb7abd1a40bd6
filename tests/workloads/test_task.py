"""`task.toml` is read strictly: what does not fit names the file, the key and the nearest key."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from edgebench_workloads import catalog
from edgebench_workloads.errors import TaskFileError, WorkloadError
from edgebench_workloads.task import NllWindow, load_task, task_sha256

SHIPPED = Path(catalog.__file__).parent / "assistant" / "task.toml"


def altered(tmp_path: Path, old: str, new: str) -> Path:
    text = SHIPPED.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "task.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def test_the_shipped_task_is_read() -> None:
    task = load_task(SHIPPED)
    assert (task.name, task.metric, task.max_new_tokens) == ("assistant", "exact_match", 48)
    assert (task.targets.standard, task.targets.high_accuracy) == (0.99, 0.999)
    assert (task.data.scored_count, task.data.calibration_count) == (1000, 256)
    assert task.data.training_head_count == 100_000
    assert {name: v.replicas for name, v in task.variants.items()} == {"300m": 8, "1b": 16}
    for variant in task.variants.values():
        assert variant.nll_increase.int4_g128 == NllWindow(minimum=0.03, maximum=0.08)
        assert variant.nll_increase.int3_g128 == NllWindow(minimum=0.20)


def test_errors_are_value_errors() -> None:
    assert issubclass(TaskFileError, WorkloadError)
    assert issubclass(WorkloadError, ValueError)


@pytest.mark.parametrize(
    ("old", "new", "key", "nearest"),
    [
        ("max_new_tokens", "max_new_token", "max_new_token", "max_new_tokens"),
        ("standard = ", "standart = ", "targets.standart", "standard"),
        ("scored_sha256", "scored_sha", "data.scored_sha", "scored_sha256"),
        ("noise = ", "noize = ", "variants.300m.noize", "noise"),
        ("int4_g128", "int4_g182", "variants.300m.nll_increase.int4_g182", "int4_g128"),
        (
            "minimum = 0.03",
            "minimun = 0.03",
            "variants.300m.nll_increase.int4_g128.minimun",
            "minimum",
        ),
    ],
)
def test_unknown_keys_name_the_nearest(
    tmp_path: Path, old: str, new: str, key: str, nearest: str
) -> None:
    path = altered(tmp_path, old, new)
    with pytest.raises(TaskFileError) as caught:
        load_task(path)
    expected = f"[{path}] unknown key '{key}'; the nearest known key is '{nearest}'"
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "', 'titel = 1 #"', "key 'title': Field required"),
        ("max_new_tokens = 48", 'max_new_tokens = "48"', "key 'max_new_tokens': Input should be"),
        ("max_new_tokens = 48", "max_new_tokens = 0", "greater than or equal to 1"),
        ("standard = 0.99", "standard = 99", "key 'targets.standard': Input should be less"),
        ("standard = 0.99", "standard = nan", "key 'targets.standard': Input should be a finite"),
        ('sha256 = "', 'sha256 = "X', "should match pattern"),
        ("outlier_factor = ", "outlier_factor = 12 # ", "must be a power of two, got 12"),
        ("maximum = 0.08", "maximum = 0.01", r"maximum 0.01 is below minimum 0.03"),
        ("[targets]", "[targets", "is not valid TOML"),
        ('metric = "exact_match"', 'metric = "bleu"', "key 'metric': Input should be"),
        ("schema_version = 1", "schema_version = 2", "key 'schema_version'"),
    ],
)
def test_values_that_do_not_fit(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = altered(tmp_path, old, new)
    with pytest.raises(TaskFileError, match=message) as caught:
        load_task(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskFileError, match=r"nowhere/task\.toml\] cannot be read: No such file"):
        load_task(tmp_path / "nowhere" / "task.toml")


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "task.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TaskFileError, match="is not valid TOML"):
        load_task(path)


def test_hash_of_the_file() -> None:
    assert task_sha256(SHIPPED) == hashlib.sha256(SHIPPED.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("increase", "inside"), [(0.0299, False), (0.03, True), (0.08, True), (0.0801, False)]
)
def test_window_bounds_are_inside(increase: float, inside: bool) -> None:
    assert NllWindow(minimum=0.03, maximum=0.08).holds(increase) is inside


def test_window_without_maximum() -> None:
    assert NllWindow(minimum=0.2).holds(7.0)
    assert not NllWindow(minimum=0.2).holds(0.19)
