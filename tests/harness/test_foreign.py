"""Other tools' files: their numbers are read as they stand, everything else is refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgebench.cli import main
from edgebench.errors import SpecError
from edgebench.foreign import ForeignResults, import_results, is_foreign, read_foreign

LLAMA: list[dict[str, Any]] = [
    {
        "build_commit": "abc", "cpu_info": "Some CPU", "gpu_info": "", "backends": "CPU",
        "model_filename": "m.gguf", "model_type": "llama 1B Q4_0", "n_threads": 2,
        "n_prompt": 512, "n_gen": 0, "avg_ts": 41.5, "stddev_ts": 0.5,
    },
    {
        "build_commit": "abc", "cpu_info": "Some CPU", "gpu_info": "", "backends": "CPU",
        "model_filename": "m.gguf", "model_type": "llama 1B Q4_0", "n_threads": 2,
        "n_prompt": 0, "n_gen": 128, "avg_ts": 9.25, "stddev_ts": 0.25,
    },
]  # fmt: skip
OPTIMUM = {
    "config": {"backend": {"model": "gpt2"}, "environment": {"cpu": "Some CPU", "gpu": ["A GPU"]}},
    "report": {
        "prefill": {
            "latency": {"unit": "s", "values": [0.1, 0.3]},
            "throughput": {"unit": "tokens/s", "value": 80.0},
            "memory": {"unit": "MB"},
        },
        "decode": {"latency": {"unit": "s", "mean": 1.5, "stdev": 0.1}},
    },
}
MLPERF = (
    "Organization,Availability,Division,SystemName,Model,MlperfModel,Scenario,Result,Accuracy,Units\n"
    "Acme,available,closed,Board,resnet50,resnet,SingleStream,0.52,acc: 76.1,Latency (ms)\n"
    "Acme,available,closed,Board,resnet50,resnet,Offline,,,Samples/s\n"
)


def written(tmp_path: Path, name: str, content: object) -> Path:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def rows_of(tmp_path: Path, name: str, content: object) -> ForeignResults:
    out = tmp_path / "tree" / "foreign"
    text = import_results(written(tmp_path, name, content), out)
    assert "unverified" in text
    (found,), refused = read_foreign(tmp_path / "tree")
    assert refused == []
    assert found.verified is False
    return found


def test_llama_bench(tmp_path: Path) -> None:
    found = rows_of(tmp_path, "l.json", LLAMA)
    assert found.tool == "llama-bench"
    assert [(row.test, row.value, row.spread) for row in found.rows] == [
        ("pp512", 41.5, 0.5),
        ("tg128", 9.25, 0.25),
    ]
    assert found.rows[0].system == "Some CPU (CPU)"


@pytest.mark.parametrize("content", [OPTIMUM, OPTIMUM["report"]], ids=["benchmark", "report"])
def test_optimum_benchmark(tmp_path: Path, content: object) -> None:
    found = rows_of(tmp_path, "o.json", content)
    assert found.tool == "optimum-benchmark"
    assert [(row.test, row.value, row.unit) for row in found.rows] == [
        ("prefill latency", 0.2, "s"),
        ("prefill throughput", 80.0, "tokens/s"),
        ("decode latency", 1.5, "s"),
    ]


def test_mlperf(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, "m.csv", MLPERF).rows
    assert (row.model, row.test, row.value, row.accuracy) == (
        "resnet", "SingleStream", 0.52, "acc: 76.1",
    )  # fmt: skip
    assert row.system == "Acme: Board"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("x.json", {"a": 1}, "neither"),
        ("x.json", [], "neither"),
        ("x.json", "{", "expected a readable x.json"),
        ("x.json", "[NaN]", "finite"),
        ("x.json", [{**LLAMA[0], "avg_ts": "fast"}], "fields of its tool|expected a readable"),
        ("x.csv", "a,b\n1,2\n", "without Organization"),
        ("x.csv", MLPERF.replace("0.52", "quick"), "fields of its tool"),
        ("x.csv", MLPERF.splitlines()[0] + "\n", "expected a result"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, name: str, content: object, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        import_results(written(tmp_path, name, content), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="No such file"):
        import_results(tmp_path / "none.json", tmp_path / "out")


def test_a_broken_import_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    rows_of(tmp_path, "l.json", LLAMA)
    folder = tmp_path / "tree" / "foreign"
    (folder / "z.json").write_text('{"schema_version": 2}')
    found, refused = read_foreign(tmp_path / "tree")
    assert len(found) == 1
    assert refused[0][0] == "foreign/z.json"
    next(folder.glob("llama*")).write_text(
        found[0].model_dump_json().replace('"verified":false', '"verified":true')
    )
    assert len(read_foreign(tmp_path / "tree")[1]) == 2


def test_the_command_tells_results_from_checkpoints(tmp_path: Path) -> None:
    assert not is_foreign(str(tmp_path))
    source = written(tmp_path, "l.json", LLAMA)
    done = CliRunner().invoke(main, ["import", str(source), "--out", str(tmp_path / "f")])
    assert done.exit_code == 0, done.output
    assert "2 unverified results of llama-bench" in done.output
