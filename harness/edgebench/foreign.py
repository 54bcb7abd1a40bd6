"""Other tools' results: llama-bench, MLPerf and optimum-benchmark, read, marked unverified, kept.

Nothing here was measured or checked by us, so nothing here is ever ranked.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from edgebench.codec import (
    encode_model,
    make_folder,
    parse_json,
    parse_model,
    read_capped,
    sha256_bytes,
    write_atomic,
)
from edgebench.errors import BundleError, SpecError
from edgebench.record import Sha256, StrictModel, Text

FOLDER = "foreign"
"""Below the root of a tree of submissions: where the leaderboard looks for imported results."""
MAX_BYTES = 64 << 20
TEXT_CHARACTERS = 300
MLPERF_COLUMNS = ("Organization", "Model", "Scenario", "Result")

Tool = Literal["llama-bench", "mlperf", "optimum-benchmark"]


class ForeignRow(StrictModel):
    """One number of another tool."""

    model: Text
    system: Text
    test: Text
    value: float
    unit: Text
    spread: float | None = None
    accuracy: Text | None = None
    note: Text | None = None


class ForeignResults(StrictModel):
    """One imported file: `foreign/NAME.json` in a tree of submissions."""

    schema_version: Literal[1] = 1
    tool: Tool
    verified: Literal[False] = False
    source: Text
    source_sha256: Sha256
    rows: list[ForeignRow]


def is_foreign(source: str) -> bool:
    """Whether a source is a file of results, and not a checkpoint's folder."""
    return Path(source).suffix.lower() in (".json", ".csv") and not Path(source).is_dir()


def import_results(source: Path, out: Path) -> str:
    """Read another tool's file, keep its rows in `out`, and say what was read.

    SpecError where the file is of none of the tools or holds no number.
    """
    try:
        data = read_capped(source, MAX_BYTES)
    except BundleError as err:
        raise SpecError(f"[import] {err}") from err
    tool, rows = _read(source, data)
    if not rows:
        raise SpecError(f"[import] expected a result in {source.name}, got none")
    found = ForeignResults(
        tool=tool, source=_short(source.name), source_sha256=sha256_bytes(data), rows=rows
    )
    make_folder(out)
    path = out / f"{tool}-{found.source_sha256[:12]}.json"
    write_atomic(path, encode_model(found))
    return f"{len(rows)} unverified results of {tool}: {path}"


def read_foreign(root: Path) -> tuple[list[ForeignResults], list[tuple[str, str]]]:
    """Return a tree's imported results, and (file, why) for each that cannot be read."""
    found, refused = [], []
    for path in sorted((root / FOLDER).glob("*.json")):
        try:
            found.append(parse_model(ForeignResults, read_capped(path, MAX_BYTES), path.name))
        except BundleError as err:
            refused.append((f"{FOLDER}/{path.name}", str(err)))
    return found, refused


def _read(source: Path, data: bytes) -> tuple[Tool, list[ForeignRow]]:
    try:
        if source.suffix.lower() == ".csv":
            return "mlperf", list(_mlperf(data.decode("utf-8-sig")))
        content = parse_json(data, source.name)
        tool = next((tool for tool, (is_ours, _) in JSON_READERS.items() if is_ours(content)), None)
        if tool is not None:
            return tool, list(JSON_READERS[tool][1](content))
    except (BundleError, ValidationError, UnicodeDecodeError, csv.Error) as err:
        raise SpecError(f"[import] expected a readable {source.name}, got {err}") from err
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise SpecError(
            f"[import] expected the fields of its tool in {source.name}, got {err!r}"
        ) from err
    raise SpecError(
        f"[import] expected the JSON of {' or '.join(JSON_READERS)} or MLPerf's CSV, got "
        f"{source.name}, which is neither; run llama-bench with -o json"
    )


# ------------------------------------------------------------------------------------ llama-bench


def _is_llama_bench(content: object) -> bool:
    return (
        isinstance(content, list)
        and bool(content)
        and all(
            isinstance(one, dict) and {"n_prompt", "n_gen", "avg_ts"} <= one.keys()
            for one in content
        )
    )


def _llama_bench(content: Sequence[Mapping[str, Any]]) -> Iterator[ForeignRow]:
    for one in content:
        prompt, answer = int(one["n_prompt"]), int(one["n_gen"])
        test = "+".join(
            [*([f"pp{prompt}"] if prompt else []), *([f"tg{answer}"] if answer else [])]
        )
        backend = one.get("backends") or one.get("backend") or ""
        yield _row(
            model=f"{one.get('model_type') or one.get('model_filename', '')}",
            system=f"{one.get('gpu_info') or one.get('cpu_info', '')} ({backend})",
            test=test,
            value=one["avg_ts"],
            unit="tokens/s",
            spread=one.get("stddev_ts"),
            note=f"build {one.get('build_commit', 'unknown')}, {one.get('n_threads')} threads",
        )


# ------------------------------------------------------------------------------ optimum-benchmark


def _is_optimum(content: object) -> bool:
    report = _report(content)
    return isinstance(report, dict) and any(
        isinstance(part, dict) and isinstance(part.get("latency"), dict) for part in report.values()
    )


def _report(content: object) -> object:
    return content.get("report", content) if isinstance(content, dict) else None


def _optimum(content: Mapping[str, Any]) -> Iterator[ForeignRow]:
    config = content.get("config") or {}
    backend, environment = config.get("backend") or {}, config.get("environment") or {}
    model = f"{backend.get('model', 'unknown')}"
    gpus = environment.get("gpu") or []
    system = f"{environment.get('cpu', 'unknown')} {' '.join(map(str, gpus))}"
    report = _report(content)
    for name, part in report.items() if isinstance(report, dict) else ():
        latency = part.get("latency") if isinstance(part, dict) else None
        if isinstance(latency, dict):
            value = latency["mean"] if "mean" in latency else _mean(latency["values"])
            yield _row(
                model=model, system=system, test=f"{name} latency", value=value,
                unit=latency.get("unit", "s"), spread=latency.get("stdev"),
            )  # fmt: skip
        rate = part.get("throughput") if isinstance(part, dict) else None
        if isinstance(rate, dict):
            yield _row(
                model=model, system=system, test=f"{name} throughput", value=rate["value"],
                unit=rate.get("unit", "1/s"),
            )  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# ---------------------------------------------------------------------------------------- MLPerf


def _mlperf(text: str) -> Iterator[ForeignRow]:
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in MLPERF_COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise SpecError(
            f"[import] expected the CSV of MLPerf's submission checker, got one without "
            f"{', '.join(missing)}"
        )
    for one in reader:
        if not one["Result"]:
            continue
        power = one.get("Power_Result") or ""
        yield _row(
            model=one.get("MlperfModel") or one["Model"],
            system=f"{one['Organization']}: {one.get('SystemName') or one.get('Platform') or ''}",
            test=one["Scenario"],
            value=float(one["Result"]),
            unit=one.get("Units") or one.get("Performance_Units") or "as MLPerf has it",
            accuracy=one.get("Accuracy") or None,
            note=" ".join(filter(None, (one.get("Division"), one.get("Availability"), power)))
            or None,
        )


def _row(**fields: Any) -> ForeignRow:
    texts = {name: _short(value) for name, value in fields.items() if isinstance(value, str)}
    numbers = {
        name: float(value)
        for name, value in fields.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if not all(math.isfinite(value) for value in numbers.values()):
        raise ValueError(f"a number that is not finite in {json.dumps(texts)}")
    return ForeignRow.model_validate({**texts, **numbers})


def _short(text: str) -> str:
    return " ".join(text.split())[:TEXT_CHARACTERS]


JSON_READERS: Mapping[
    Tool, tuple[Callable[[object], bool], Callable[[Any], Iterator[ForeignRow]]]
] = {
    "llama-bench": (_is_llama_bench, _llama_bench),
    "optimum-benchmark": (_is_optimum, _optimum),
}
