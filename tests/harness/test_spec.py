"""The run specification: every name checked, the nearest suggested, contradictions refused."""

from pathlib import Path
from typing import Any

import pytest

from edgebench.errors import SpecError
from edgebench.spec import RunOptions, parse_run, split_names
from edgebench.transform import parse_transform


def test_defaults_make_a_spec() -> None:
    spec = parse_run(RunOptions())
    assert spec.workloads == ("assistant", "assistant@300m")
    assert spec.scenarios == ("single-stream", "offline")
    assert spec.kernels == ("fp16", "int4")


@pytest.mark.parametrize(
    ("option", "came", "nearest"),
    [
        ("track", "clsed", "closed"),
        ("workload", "asistant", "assistant"),
        ("scenario", "offlin", "offline"),
        ("kernel", "fp16,int5", "int4"),
        ("profile", "quik", "quick"),
        ("transform", "rnt", "rtn"),
    ],
)
def test_unknown_name_suggests_the_nearest(option: str, came: str, nearest: str) -> None:
    with pytest.raises(SpecError, match=f"did you mean '{nearest}'"):
        parse_run(RunOptions(**{option: came}))


def test_single_is_single_stream() -> None:
    assert parse_run(RunOptions(scenario="single")).scenarios == ("single-stream",)


def test_reference_must_be_among_the_kernels() -> None:
    with pytest.raises(SpecError, match="reference fp16"):
        parse_run(RunOptions(kernel="int4"))


def test_widened_workload_is_refused_in_the_open_track() -> None:
    with pytest.raises(SpecError, match="assistant@300m: a widened model"):
        parse_run(RunOptions(track="open", workload="assistant@300m"))


def test_organisation_must_be_a_folder_name() -> None:
    with pytest.raises(SpecError, match="organisation"):
        parse_run(RunOptions(organisation="../elsewhere"))


def test_split_names_keeps_order_and_drops_repeats() -> None:
    assert split_names("b, a,b") == ("b", "a")
    with pytest.raises(SpecError, match="got ' , '"):
        split_names(" , ")


def test_transform_reads_its_parameters() -> None:
    spec = parse_transform("rtn:group=64,symmetric=true")
    assert [step.parameters for step in spec.steps] == [{"group": 64, "symmetric": True}]
    assert str(spec) == "rtn:group=64,symmetric=true"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rtn:grup=64", "did you mean 'group'"),
        ("rtn:group", "expected key=value"),
        ("rtn:group=big", "to be a int"),
        ("rtn:symmetric=1", "to be a bool"),
        ("smoothquant:alpha=half", "to be a float"),
        ("smoothquant:alpha=nan", "to be a float"),
        ("rtn+gptq", "expected one transform, or awq or smoothquant followed by \\+gptq"),
        ("gptq+awq", "expected one transform"),
        ("awq+gptq+gptq", "expected one transform"),
        ("awq+gtpq", "did you mean 'gptq'"),
    ],
)
def test_transform_refuses_what_it_does_not_know(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_transform(text)


def test_transforms_are_chained_by_plus() -> None:
    chain = parse_transform("awq:clip=false + gptq:damping=0.05")
    assert chain.names == ("awq", "gptq")
    assert str(chain) == "awq:clip=false+gptq:damping=0.05"
    assert parse_transform(str(chain)) == chain


def test_budget_is_the_profiles_own_unless_given() -> None:
    assert parse_run(RunOptions()).budget_s == 360
    assert parse_run(RunOptions(profile="official")).budget_s is None
    assert parse_run(RunOptions(profile="official", budget="2")).budget_s == 120


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20", 1200),
        ("2.5", 150),
        ("20m", 1200),
        ("1h30m", 5400),
        ("90s", 90),
        ("1h1m1s", 3661),
        (" 1.5h ", 5400),
    ],
)
def test_budgets_are_minutes_or_durations(text: str, seconds: float) -> None:
    assert parse_run(RunOptions(budget=text)).budget_s == seconds


@pytest.mark.parametrize(
    "text",
    ["", "0", "0m", "0h0s", "-5", "m", "20 m", "20min", "1m1h", "1e3", "nan", "inf", "5m5m", "²m"],
)
def test_a_budget_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="--budget to be minutes or a duration such as 20m"):
        parse_run(RunOptions(budget=text))


@pytest.mark.parametrize(
    "options", [{"resume": True}, {"workload": "llm", "model": "m", "text": Path("t")}]
)
def test_a_plan_is_of_a_new_run_with_scenarios(options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="expected --dry-run without --resume"):
        parse_run(RunOptions(dry_run=True, **options))


@pytest.mark.parametrize(
    ("text", "cpus"), [("0", (0,)), ("0,2-3", (0, 2, 3)), ("3, 1-2,2", (1, 2, 3))]
)
def test_affinity_reads_lists_and_ranges(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_run(RunOptions(affinity=text)).affinity == cpus


@pytest.mark.parametrize("text", ["", "a", "3-1", "0,,1", "-1", "999999999"])
def test_affinity_refuses_anything_else(text: str) -> None:
    with pytest.raises(SpecError, match="--affinity to be CPUs such as 0,2-3"):
        parse_run(RunOptions(affinity=text))


OPENAI = {"sut": "openai", "workload": "assistant", "url": "http://127.0.0.1:8000"}


def test_a_server_is_measured_beside_the_reference() -> None:
    spec = parse_run(RunOptions(**OPENAI))
    assert spec.kernels == ("fp16", "external")
    assert spec.declared_transform == "unknown"
    assert spec.external is not None
    assert (spec.external.address.port, spec.external.concurrency) == (8000, 8)


def test_our_own_engine_declares_its_transform() -> None:
    assert parse_run(RunOptions(transform="rtn:group=64")).declared_transform == "rtn:group=64"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": None}, "--sut openai with --url"),
        ({"url": "http://10.1.2.3:80"}, "a server on this machine"),
        ({"url": "https://127.0.0.1"}, "http://HOST:PORT"),
        ({"workload": "assistant,assistant@300m"}, "one workload"),
        ({"workload": "llm", "model": "m", "text": "t"}, "one workload"),
        ({"transform": "awq"}, "no --transform"),
        ({"concurrency": 0}, "--concurrency between 1 and 256, got 0"),
        ({"concurrency": 257}, "got 257"),
        ({"kernel": "fp16"}, "the reference fp16 and a kernel"),
        ({"kernel": "int4,external"}, "the reference fp16 and a kernel"),
        ({"sut": "opnai"}, "did you mean 'openai'"),
        ({"sut": "own"}, "--url with --sut openai only"),
        ({"sut": "own", "url": None, "served_model": "m"}, "--served-model with"),
        ({"sut": "own", "url": None, "concurrency": 1}, "--concurrency with"),
        ({"sut": "own", "url": None, "allow_remote": True}, "--allow-remote with"),
        ({"sut": "own", "url": None, "kernel": "fp16,external"}, "or --sut openai"),
    ],
)
def test_what_is_asked_of_a_server_is_whole(changes: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parse_run(RunOptions(**{**OPENAI, **changes}))


def test_another_machine_has_to_be_allowed() -> None:
    options = {**OPENAI, "url": "http://10.1.2.3:80", "allow_remote": True}
    spec = parse_run(RunOptions(**options))
    assert spec.external is not None
    assert spec.external.is_remote_allowed
