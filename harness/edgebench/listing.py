"""What `bench list` and `bench explain` say: the literal tables, as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from edgebench.errors import unknown_name

Table = Sequence[Mapping[str, object]]


def _workloads() -> Table:
    from edgebench.spec import LLM
    from edgebench_workloads.catalog import WORKLOADS

    own = {
        "name": LLM,
        "title": "Your own model and text (--model, --text): its perplexity, fp16 and INT4",
        "tracks": "closed",
        "disclosure": "No bundle, nothing ranked",
    }
    catalog = [
        {
            "name": name,
            "title": workload.task.title,
            "tracks": "closed" if workload.closed_only else "closed, open",
            "disclosure": workload.disclosure or "",
        }
        for name, workload in WORKLOADS.items()
    ]
    return [*catalog, own]


def _devices() -> Table:
    from edgebench.devices import DEVICES

    first = {"name": "auto", "title": "what this machine is"}
    return [first, *({"name": name, "title": device.title} for name, device in DEVICES.items())]


def _transforms() -> Table:
    from edgebench.transform import PARAMETERS, SUMMARIES, TRANSFORMS

    return [
        {"name": name, "summary": SUMMARIES[name], "parameters": ", ".join(PARAMETERS[name])}
        for name in TRANSFORMS
    ]


def _rules() -> Table:
    from edgebench.rules import RULES

    return [
        {
            "id": rule.id,
            "title": rule.title,
            "applies to": f"{rule.applies_to}",
            "severity": rule.severity,
            "source": rule.source,
        }
        for rule in RULES.values()
    ]


LISTS: Mapping[str, Callable[[], Table]] = {
    "workloads": _workloads,
    "devices": _devices,
    "transforms": _transforms,
    "rules": _rules,
}


def list_text(what: str, form: str) -> str:
    """Return one table as Markdown or JSON; unknown names raise SpecError."""
    if what not in LISTS:
        raise unknown_name("list", "list", what, LISTS)
    if form not in ("md", "json"):
        raise unknown_name("list", "format", form, ("md", "json"))
    table = LISTS[what]()
    if form == "json":
        return json.dumps(table, indent=2)
    keys = tuple(table[0])
    lines = ["| " + " | ".join(keys) + " |", "|" + " --- |" * len(keys)]
    lines += ["| " + " | ".join(str(row[key]) for key in keys) + " |" for row in table]
    return "\n".join(lines)


def explain_text(rule_id: str) -> str:
    """Return everything the rulebook says of one rule."""
    from edgebench.rules import facts, find_rule

    rule = find_rule(rule_id)
    lines = [f"{name}: {text}" for name, text in facts(rule)]
    return "\n".join((f"{rule.id}: {rule.title}", "", rule.text, *lines))
