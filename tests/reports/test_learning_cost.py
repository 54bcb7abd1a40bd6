"""Training costs: taken from the ledger step by step, shown of the open model, never of fp16."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from edgebench.record import Ledger
from edgebench_reports.cards import make_cards
from edgebench_reports.entries import Entry, rank_entries
from edgebench_reports.evidence import Evidence, LearningCost, learning_costs
from edgebench_reports.learning_cost import HEADING, cost_text, cpu_minutes, learning_columns
from edgebench_reports.tables import make_table

ROOT = Path(__file__).parents[2]
STUDENT = LearningCost(
    transform="distill", examples=1_024_000, steps=4000, cpu_s=354.0, device="NVIDIA H200"
)
SEARCHED = LearningCost(transform="nas", evaluations=108)


def entries(factory: ModuleType, *costs: LearningCost) -> list[Entry]:
    one = factory.submission(factory.record_data(track="open"))
    return rank_entries([replace(one, evidence=Evidence(costs=costs))])


def test_words_say_what_is_known() -> None:
    assert cost_text(STUDENT) == (
        "distill: 1,024,000 examples, 4,000 steps, 5.90 CPU minutes, beside an accelerator: "
        "NVIDIA H200"
    )
    assert cost_text(SEARCHED) == "nas: 108 subnets evaluated"


def test_the_column_is_there_where_something_was_trained(factory: ModuleType) -> None:
    assert learning_columns(entries(factory)) == ()
    shown = entries(factory, STUDENT, replace_cpu(STUDENT, 6.0))
    table = make_table(shown, "single-stream")
    place = [column.heading for column in table.columns].index(HEADING)
    values = {e.result.kernel: row[place].value for e, row in zip(shown, table.rows, strict=True)}
    assert values == {"int4": 6.0, "fp16": None}
    assert [cpu_minutes(entry) for entry in entries(factory, SEARCHED)] == [None, None]


def replace_cpu(cost: LearningCost, cpu_s: float) -> LearningCost:
    return cost.model_copy(update={"transform": "finetune", "cpu_s": cpu_s})


def test_cards_say_it(factory: ModuleType) -> None:
    (card,) = make_cards(entries(factory, SEARCHED))
    assert card.costs == ("nas: 108 subnets evaluated",)


def test_ledgers_of_the_submissions_give_their_costs() -> None:
    found = {}
    for path in sorted((ROOT / "submissions" / "open").rglob("ledger.json")):
        ledger = Ledger.model_validate_json(path.read_text(encoding="utf-8"))
        declared = ledger.open_model.training if ledger.open_model else []
        costs = learning_costs(ledger)
        learnt = [cost for cost in costs if cost.transform != "nas"]
        assert [cost.cpu_s for cost in learnt] == [own.cpu_s for own in declared], path
        found.update({cost.transform: json.loads(cost.model_dump_json()) for cost in costs})
    assert found.keys() >= {"distill", "finetune", "nas"}
    assert found["nas"]["evaluations"] > 0
    assert found["distill"]["examples"] > 0
