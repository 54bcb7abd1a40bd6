"""Recomputes every hash and size in a workload's `task.toml`, and `student.toml` beside it.

Run `python -m edgebench_workloads.pin` after the data, the model, or a variant's parameters change.
Widened models are generated into the cache on the way, so they are ready for the first run.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from edgebench_workloads import students
from edgebench_workloads.cache import build_once
from edgebench_workloads.catalog import WORKLOADS, Workload, forget_tasks
from edgebench_workloads.errors import WorkloadError
from edgebench_workloads.students import read_student
from edgebench_workloads.weights import sha256_of
from edgebench_workloads.widen import widen_checkpoint

Values = Mapping[str, str | int | float]
TOP = ""  # the section before the first table


def main(arguments: list[str] | None = None) -> int:
    """Pin one workload: its data, its model, then each widened variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", nargs="?", default="assistant", help="default: assistant")
    parser.add_argument("--cache", type=Path, help="where widened models go")
    parser.add_argument("--skip-data", action="store_true", help="keep the data hashes")
    parser.add_argument("--variants", nargs="*", help="only these, e.g. 300m; default: all")
    options = parser.parse_args(arguments)
    mine = [workload for workload in WORKLOADS.values() if workload.base == options.base]
    if not mine:
        parser.error(f"no workload is called {options.base!r}")
    try:
        if not options.skip_data:
            rewrite(mine[0].folder / "task.toml", "data", data_values(mine[0]))
            rewrite(mine[0].folder / "task.toml", TOP, baseline_values(mine[0].folder))
        pin_models(mine, options.cache, options.variants)
    except (OSError, WorkloadError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    return 0


def pin_models(
    workloads: list[Workload], cache: Path | None = None, only: list[str] | None = None
) -> None:
    """Write the hashes of the trained model, then of each widened variant of it."""
    task_file = workloads[0].folder / "task.toml"
    rewrite(task_file, "model", model_values(workloads[0].folder / "model"))
    if (student := workloads[0].folder / students.FOLDER).is_dir():
        (workloads[0].folder / students.PINS).write_text(_student_pins(student), encoding="utf-8")
    for workload in workloads:
        name = workload.variant_name
        if name is not None and (only is None or name in only):
            rewrite(task_file, f"variants.{name}", variant_values(workload, cache))


def data_values(workload: Workload) -> Values:
    """The counts and hashes of the data sets."""
    dataset = import_module(f"edgebench_workloads.{workload.base}.dataset")
    scored, calibration = dataset.scored_pairs(), dataset.calibration_pairs()
    head = dataset.training_pairs(workload.task.data.training_head_count)
    return {
        "scored_count": len(scored),
        "scored_sha256": dataset.pairs_sha256(scored),
        "calibration_count": len(calibration),
        "calibration_sha256": dataset.pairs_sha256(calibration),
        "training_head_sha256": dataset.pairs_sha256(head),
    }


def baseline_values(folder: Path) -> Values:
    """The nearest-neighbour baseline on the scored set, where `freeze` has measured it."""
    path = folder / "hashes.json"
    if not path.exists():
        return {}
    percent = json.loads(path.read_text())["nearest_neighbor_100000"]["scored"]
    return {"nearest_neighbour_accuracy": percent["exact_match_percent"] / 100}


def model_values(directory: Path) -> Values:
    """The hashes of a trained model's directory."""
    values: dict[str, str | int | float] = {
        "size_bytes": (directory / "model.safetensors").stat().st_size,
        "sha256": sha256_of(directory / "model.safetensors"),
        "config_sha256": sha256_of(directory / "config.json"),
    }
    if (directory / "tokenizer.json").exists():
        values["tokenizer_sha256"] = sha256_of(directory / "tokenizer.json")
    if (supernet := directory / "supernet.safetensors").exists():
        values["supernet_size_bytes"] = supernet.stat().st_size
        values["supernet_sha256"] = sha256_of(supernet)
    return values


def _student_pins(directory: Path) -> str:
    """`student.toml`; WorkloadError where the student is no such folder, or too large to ship."""
    read_student(directory)
    weights = directory / "model.safetensors"
    if (size := weights.stat().st_size) > students.MAX_SIZE_BYTES:
        raise WorkloadError(
            f"[{weights}] expected at most {students.MAX_SIZE_BYTES} bytes to ship, got {size}"
        )
    values: Values = {
        "size_bytes": size,
        "sha256": sha256_of(weights),
        "config_sha256": sha256_of(directory / "config.json"),
        "training_sha256": sha256_of(directory / "training.json"),
    }
    lines = (f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in values.items())
    return "# Written by: python -m edgebench_workloads.pin\n" + "\n".join(lines) + "\n"


def variant_values(workload: Workload, cache: Path | None) -> Values:
    """Generate a widened model anew and take its hash."""
    plan = workload.plan
    assert plan is not None, "only variants are generated"
    directory = workload.cache_directory(plan, cache)
    shutil.rmtree(directory, ignore_errors=True)
    small = workload.folder / "model"
    build_once(directory, lambda partial: _widen(small, partial, workload))
    model = directory / "model.safetensors"
    return {"size_bytes": model.stat().st_size, "sha256": sha256_of(model)}


def _widen(small: Path, partial: Path, workload: Workload) -> None:
    assert workload.plan is not None
    print(f"generating {workload.name} ...", file=sys.stderr)
    widen_checkpoint(small, partial, workload.plan)


def rewrite(path: Path, section: str, values: Values) -> None:
    """Replace the values of keys that a TOML table already has, keeping all else as it stands."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    missing = dict(values)
    current = ""
    for number, line in enumerate(lines):
        if header := re.match(r"\[([^\]]+)\]", line):
            current = header[1]
        elif current == section and (entry := re.match(r"(\w+) = ", line)) and entry[1] in missing:
            value = missing.pop(entry[1])
            shown = f'"{value}"' if isinstance(value, str) else str(value)
            lines[number] = f"{entry[1]} = {shown}\n"
    if missing:
        raise WorkloadError(f"[{path}] table [{section}] lacks {', '.join(missing)}; add them")
    path.write_text("".join(lines), encoding="utf-8")
    forget_tasks()


if __name__ == "__main__":
    sys.exit(main())
