"""`bench audit` as a command: what it refuses, what it files, what it leaves behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgebench import command_audit
from edgebench.audit import TESTS
from edgebench.audit.case import COUNTS, Counts
from edgebench.audit.premises import Given, differing, incomparable_outputs, premises
from edgebench.audit.record import AuditedKernel, AuditedTest, AuditMeasure, AuditRecord
from edgebench.audit.report import exit_code, markdown, overall
from edgebench.bundle import Bundle, read_bundle
from edgebench.cli import main
from edgebench.codec import parse_model
from edgebench.errors import DeviceUnavailable, RuleViolation, RunFailed
from edgebench.progress import SilentProgress
from edgebench.record import ExternalServer

SHIPPED = "closed/unaffiliated/Intel-Xeon-2c-amx_int8/assistant/single-stream"


@pytest.fixture
def shipped(root: Path) -> Path:
    """A bundle of this repository that holds its tensors."""
    (found,) = (root / "submissions" / SHIPPED).iterdir()
    return found


@pytest.fixture
def bundle(shipped: Path) -> Bundle:
    return read_bundle(shipped)


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["audit", *map(str, arguments)])


def test_an_unknown_test_is_usage_with_the_nearest_name(shipped: Path) -> None:
    said = bench(shipped, "--tests", "caching,outptus")
    assert said.exit_code == 2
    assert "did you mean 'outputs'" in said.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--tests", ","), "expected --tests out of caching"),
        (("--format", "jsn"), "did you mean 'json'"),
        (("--tensors", "nowhere"), "--tensors to be a folder, got nowhere"),
    ],
)
def test_a_request_that_makes_no_sense_is_usage(
    arguments: tuple[str, ...], text: str, shipped: Path
) -> None:
    said = bench(shipped, *arguments)
    assert said.exit_code == 2
    assert text in said.output


def test_no_bundle_is_usage(tmp_path: Path) -> None:
    said = bench(tmp_path / "nothing")
    assert said.exit_code == 2
    assert "expected a bundle to be a folder" in said.output


def test_the_options_default_to_every_test() -> None:
    (option,) = (p for p in main.commands["audit"].params if p.name == "tests")
    assert option.default == ",".join(TESTS)


def test_tests_run_in_the_tables_order_each_once() -> None:
    assert [t.name for t in command_audit.chosen_tests("tokens, caching,tokens")] == [
        "caching",
        "tokens",
    ]


def test_a_bundle_that_fails_the_check_is_not_run(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = tmp_path.joinpath(*shipped.parts[-6:])
    shutil.copytree(shipped, edited)
    record = edited / "record.json"
    record.write_text(record.read_text().replace('"valid": true', '"valid": false'))
    monkeypatch.setattr(command_audit, "audit", lambda *_: pytest.fail("it ran"))
    said = bench(edited, "--out", tmp_path / "out")
    assert said.exit_code == 5
    assert "expected a bundle that passes bench check; nothing was run: [S-03]" in said.output
    assert not (tmp_path / "out").exists()


def test_an_external_engine_cannot_be_run_again(
    bundle: Bundle, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ExternalServer(
        url="http://127.0.0.1:8000", endpoint="/v1/completions", prompt_form="text",
        model="tiny", software=None, concurrency=8,
    )  # fmt: skip
    record = bundle.record.model_copy(update={"external": server})
    monkeypatch.setattr(command_audit, "check", lambda *_, **__: pytest.fail("it was checked"))
    monkeypatch.setattr(command_audit, "read_bundle", lambda _: replace(bundle, record=record))
    said = bench(shipped)
    assert said.exit_code == 2
    assert "expected --url http://HOST:PORT of the server" in said.output


@pytest.mark.parametrize(
    ("url", "is_external", "text"),
    [
        ("http://127.0.0.1:8000", False, "expected --url with a bundle of an external engine only"),
        ("https://127.0.0.1:8000", True, "expected --url http://HOST:PORT, got 'https:"),
        ("http://192.0.2.1:8000", True, "expected a server on this machine"),
    ],
)
def test_a_server_is_given_where_it_is_needed(
    url: str, is_external: bool, text: str, shipped: Path, bundle: Bundle, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if is_external:
        server = ExternalServer(
            url="http://127.0.0.1:8000", endpoint="/v1/completions", prompt_form="text",
            model="tiny", software=None, concurrency=8,
        )  # fmt: skip
        record = bundle.record.model_copy(update={"external": server})
        monkeypatch.setattr(command_audit, "check", lambda *_, **__: [])
        monkeypatch.setattr(command_audit, "read_bundle", lambda _: replace(bundle, record=record))
    said = bench(shipped, "--url", url, "--out", tmp_path / "out")
    assert said.exit_code == 2, said.output
    assert text in said.output


def test_a_gpus_bundle_needs_a_gpu(bundle: Bundle) -> None:
    host = bundle.record.host.model_copy(
        update={"device": "orin", "executed_on": "GPU kernels on NVIDIA Jetson AGX Orin 64GB"}
    )
    there = replace(bundle, record=bundle.record.model_copy(update={"host": host}))
    with pytest.raises(DeviceUnavailable, match="expected NVIDIA Jetson AGX Orin 64GB, found"):
        command_audit.audit_device(there)
    assert DeviceUnavailable.exit_code == 3
    assert command_audit.audit_device(bundle).backend == "cpu"


def test_out_stays_outside_the_bundle(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_audit, "audit", lambda *_: pytest.fail("it ran"))
    before = sorted(shipped.iterdir())
    said = bench(shipped, "--out", shipped / "audits")
    assert said.exit_code == 2
    assert "expected --out outside the bundle" in said.output
    assert sorted(shipped.iterdir()) == before


def test_ctrl_c_leaves_nothing(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> AuditRecord:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_audit, "audit", interrupted)
    said = bench(shipped, "--out", tmp_path / "out", "--quiet")
    assert said.exit_code == 130
    assert "an audit that did not end leaves nothing" in said.output
    assert not list(tmp_path.iterdir())


def target(shortage: str | None = None) -> Any:
    return SimpleNamespace(
        prepare=lambda threads, affinity, begun: None,
        memory_shortage=lambda size, system: shortage,
    )


def test_the_tensors_are_the_bundles_own(bundle: Bundle) -> None:
    given = premises(bundle, bundle.system, target(), Given(), SilentProgress())
    assert given.differences == ()
    assert set(given.prepared.quantized.tensors) == set(bundle.ledger.tensors)
    assert given.prepared.quantized.steps == tuple(bundle.ledger.steps)


def test_tensors_that_are_not_the_ledgers_are_refused(bundle: Bundle) -> None:
    """Of the recipe, as where the bundle is too large to hold them."""
    hashes = {**bundle.ledger.tensors, "lm_head": "0" * 64}
    edited = replace(
        bundle, tensors_path=None, ledger=bundle.ledger.model_copy(update={"tensors": hashes})
    )
    with pytest.raises(
        RuleViolation, match="the recipe to give the ledger's tensors, got 1 others"
    ):
        premises(edited, bundle.system, target(), Given(), SilentProgress())


def test_a_model_larger_than_memory_is_not_begun(bundle: Bundle) -> None:
    with pytest.raises(RunFailed, match="expected memory for assistant: too little"):
        premises(bundle, bundle.system, target("too little"), Given(), SilentProgress())


def test_another_system_is_named_and_its_outputs_are_compared_on_one_isa_only(
    bundle: Bundle,
) -> None:
    cpu = bundle.system.cpu.model_copy(update={"isa": "scalar", "model": "Other"})
    other = bundle.system.model_copy(update={"cpu": cpu})
    assert differing(bundle.system, bundle.system) == ()
    assert differing(bundle.system, other) == (
        f"CPU Other here, {bundle.system.cpu.model} in the bundle",
        "instruction set scalar here, amx_int8 in the bundle",
    )
    path = next(one.executed_path for one in bundle.record.results if one.kernel == "int4")
    assert incomparable_outputs(bundle, "int4", bundle.system, path) is None
    assert "scalar here, amx_int8 there" in str(incomparable_outputs(bundle, "int4", other, path))
    assert "w4a8/x here" in str(incomparable_outputs(bundle, "int4", bundle.system, "w4a8/x"))


@pytest.mark.torch
@pytest.mark.native
@pytest.mark.usefixtures("kernels_left_alone")
def test_a_shipped_bundle_is_audited_and_filed(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests that no clock decides; the timed ones have a clock of their own elsewhere."""
    few = Counts(pairs=4, answers=8, logits=2)
    monkeypatch.setitem(COUNTS, ("embedded", "single-stream"), few)  # type: ignore[arg-type]
    out = tmp_path / "out"
    said = bench(shipped, "--tests", "tokens,length", "--out", out, "--seed", "5", "--quiet")
    assert said.exit_code == 0, said.output
    assert sorted(path.name for path in out.iterdir()) == ["audit.json", "audit.md"]
    record = parse_model(AuditRecord, (out / "audit.json").read_bytes(), "audit.json")
    assert (record.verdict, record.seed, record.run_id) == ("passed", 5, shipped.name)
    assert said.output.startswith((out / "audit.md").read_text())
    verdicts = {
        (kernel.kernel, test.test): test.verdict
        for kernel in record.kernels
        for test in kernel.tests
    }
    assert verdicts == {
        ("fp16", "tokens"): "passed",
        ("fp16", "length"): "not applicable",
        ("int4", "tokens"): "passed",
        ("int4", "length"): "passed",
    }


@pytest.mark.torch
@pytest.mark.native
@pytest.mark.usefixtures("kernels_left_alone")
def test_a_kernel_that_is_not_built_here_is_never_passed(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_audit, "BUILT_HERE", frozenset({"fp16"}))
    few = Counts(pairs=4, answers=8, logits=2)
    monkeypatch.setitem(COUNTS, ("embedded", "single-stream"), few)  # type: ignore[arg-type]
    said = bench(shipped, "--tests", "tokens", "--out", tmp_path / "out", "--quiet")
    assert said.exit_code == 4, said.output
    assert "NOT APPLICABLE: what the bundle claims could not be audited" in said.output
    assert "| int4 | tokens | not applicable | what answered is not built here" in said.output
    assert "| fp16 | tokens | passed |" in said.output


def record_of(*tests: AuditedTest, **change: Any) -> AuditRecord:
    given: dict[str, Any] = {
        "run_id": "run",
        "bundle_sha256": "0" * 64,
        "track": "closed",
        "organisation": "us",
        "workload": "assistant",
        "scenario": "offline",
        "transform": "rtn",
        "system_claimed": "box",
        "system": "box",
        "differences": [],
        "executed_on": "CPU kernels on box",
        "threads": 1,
        "other_runs_seen": False,
        "seed": 3,
        "tool_version": "0",
        "started_utc": "then",
        "finished_utc": "now",
        "verdict": overall([test.verdict for test in tests]),
        "kernels": [AuditedKernel(kernel="int4", executed_path="w4a16", tests=list(tests))],
    }
    return AuditRecord(**{**given, **change})


def one_test(verdict: Any, *measures: AuditMeasure, note: str = "") -> AuditedTest:
    return AuditedTest(
        test="seeds",
        catches="x",
        verdict=verdict,
        note=note,
        runs=7,
        queries=9,
        measures=list(measures),
    )


def test_the_table_says_test_verdict_measured_limit_and_runs() -> None:
    measure = AuditMeasure(
        what="latency | there", verdict="caught", value=0.5, interval=(0.4, 0.6), limit=">= 0.9"
    )
    text = markdown(
        record_of(one_test("caught", measure), one_test("not applicable", note="no door"))
    )
    assert text.splitlines() == [
        "assistant offline run: CAUGHT: at least one test was not passed",
        "",
        "| kernel | test | verdict | measured | limit | runs |",
        "| --- | --- | --- | --- | --- | --- |",
        "| int4 | seeds | **caught** | latency \\| there: 0.5 [0.4, 0.6] | ≥ 0.9 | 7 |",
        "| int4 | seeds | not applicable | no door | - | 7 |",
        "",
        "seed 3, CPU kernels on box",
    ]


def test_another_system_and_a_disclosure_are_said_above_the_table() -> None:
    text = markdown(
        record_of(one_test("passed"), differences=["CPU x here, y there"], disclosure="Widened.")
    )
    assert "Widened." in text
    assert "CPU x here, y there): no time is compared with the bundle's" in text


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (("passed", "not applicable"), 0),
        (("passed", "caught", "failed"), 5),
        (("passed", "failed"), 4),
        (("passed", "unsure"), 4),
        (("not applicable",), 4),
    ],
)
def test_exit_codes(verdicts: tuple[Any, ...], code: int) -> None:
    assert exit_code(overall(list(verdicts))) == code


def test_a_bundle_that_is_audited_in_part_has_not_passed() -> None:
    assert overall(["passed"], is_whole=False) == "not applicable"
    assert overall(["passed", "caught"], is_whole=False) == "caught"


def test_the_json_is_the_record(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_of(one_test("caught"))
    made: Callable[..., AuditRecord] = lambda *_: record  # noqa: E731
    monkeypatch.setattr(command_audit, "audit", made)
    said = bench(shipped, "--format", "json", "--out", tmp_path / "out", "--quiet")
    assert said.exit_code == 5
    assert json.loads(said.output) == json.loads((tmp_path / "out" / "audit.json").read_text())
