"""Pruning requests: what the words of a step mean, and what is refused before any work."""

from __future__ import annotations

import pytest

from edgebench.errors import RuleViolation, SpecError
from edgebench.spec import RunOptions, parse_run
from edgebench.transform import parse_transform
from edgebench.transform.pruning import Pattern, kept_count, read_prune


def test_a_chain_of_changes_and_a_quantizer() -> None:
    chain = parse_transform("prune:layers=1 + prune:wanda=2:4 + finetune:steps=20 + awq")
    assert chain.names == ("prune", "prune", "finetune", "awq")
    assert [str(step) for step in chain.changes] == [
        "prune:layers=1", "prune:wanda=2:4", "finetune:steps=20",
    ]  # fmt: skip
    assert str(chain.rounding) == "awq"
    assert str(chain) == "prune:layers=1+prune:wanda=2:4+finetune:steps=20+awq"
    assert parse_transform(str(chain)) == chain


def test_a_chain_may_end_in_fp16() -> None:
    chain = parse_transform("prune:magnitude=0.5,scope=global")
    assert chain.rounding is None
    request = read_prune(chain.steps[0].parameters)
    assert (request.pattern, request.scope) == (Pattern(share=0.5), "global")
    assert not request.needs_data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prune", "expected one method out of magnitude"),
        ("prune:wanda=2:4,magnitude=0.5", "got magnitude and wanda"),
        ("prune:wanda=0", "share between 0 and 1"),
        ("prune:wanda=1", "share between 0 and 1"),
        ("prune:magnitude=-0.5", "share between 0 and 1"),
        ("prune:wanda=1:4", "to be 2:4 or 4:8"),
        ("prune:wanda=4:4", "to be 2:4 or 4:8"),
        ("prune:wanda=half", "share between 0 and 1"),
        ("prune:wanda=2:4,scope=global", "no scope with wanda"),
        ("prune:magnitude=2:4,scope=global", "no scope with 2:4"),
        ("prune:magnitude=0.5,scope=row", "tensor or global"),
        ("prune:magnitude=0.5,samples=3", "no samples with magnitude"),
        ("prune:sparsegpt=2:4,damping=7", "damping to be"),
        ("prune:wanda=2:4,samples=0", "samples to be at least 1"),
        ("prune:heads=1.0", "share between 0 and 1"),
        ("prune:layers=0", "at least 1"),
        ("prune:wandas=2:4", "did you mean 'wanda'"),
        ("prun:wanda=2:4", "did you mean 'prune'"),
        ("finetune:steps=0", "steps to be 1"),
        ("finetune:rate=2", "rate to be"),
        ("awq+prune:wanda=2:4", "before them"),
        ("prune:wanda=2:4+rtn+awq", "before them"),
        ("prune:wanda=2:4+rtn+finetune", "before them"),
    ],
)
def test_nonsense_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_transform(text)


@pytest.mark.parametrize(
    ("count", "share", "multiple", "kept"),
    [(768, 0.25, 32, 576), (4, 0.5, 1, 2), (96, 1 / 3, 32, 64)],
)
def test_shares_that_divide(count: int, share: float, multiple: int, kept: int) -> None:
    assert kept_count("units", count, share, multiple) == kept


def test_a_share_that_does_not_divide_names_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"multiple of 32 of 768, got 0.3; the nearest .* 0.291667"):
        kept_count("FFN units", 768, 0.3, 32)
    with pytest.raises(SpecError, match=r"got 0.3; the nearest that does is 0.25"):
        kept_count("key-value heads", 4, 0.3)


def test_the_closed_track_refuses_pruning_before_any_work() -> None:
    with pytest.raises(RuleViolation, match=r"W-07.*--track open") as refused:
        parse_run(RunOptions(transform="prune:wanda=2:4+awq"))
    assert refused.value.exit_code == 5
    with pytest.raises(RuleViolation, match="W-07"):
        parse_run(RunOptions(transform="finetune+rtn", workload="assistant"))


def test_the_open_track_refuses_widened_workloads_before_any_work() -> None:
    options = RunOptions(track="open", workload="assistant@300m", transform="prune:wanda=2:4")
    with pytest.raises(RuleViolation, match=r"W-08.*assistant@300m: a widened model") as refused:
        parse_run(options)
    assert refused.value.exit_code == 5


@pytest.mark.parametrize(
    ("transform", "kernels"),
    [("prune:wanda=2:4+awq", ("fp16", "int4")), ("prune:units=0.25", ("fp16", "open"))],
)
def test_the_open_model_runs_beside_the_reference(transform: str, kernels: tuple[str, ...]) -> None:
    spec = parse_run(RunOptions(track="open", workload="assistant", transform=transform))
    assert spec.kernels == kernels


def test_a_kernel_that_the_transform_does_not_make_is_refused() -> None:
    options = RunOptions(
        track="open", workload="assistant", transform="prune:units=0.25", kernel="fp16,int8"
    )
    with pytest.raises(SpecError, match="kernel"):
        parse_run(options)
    with pytest.raises(SpecError, match="--kernel fp16,int4"):
        parse_run(RunOptions(kernel="fp16,open"))
