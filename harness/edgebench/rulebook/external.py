"""External engines: what nobody can look into says that it is one."""

from __future__ import annotations

from edgebench import profiles as p
from edgebench.rulebook.rule import EXTERNAL, Rule

RULES = (
    Rule(
        id="E-01",
        title="An external engine says that it is one",
        text="A bundle holds external exactly where its record describes the server. Then its "
        "ledger has no step and no tensor, and the result says transform "
        f"{p.EXTERNAL_TRANSFORM!r}, no weight bytes, no memory and no place under the roofline.",
        why="What cannot be checked must not be claimed.",
        source="ours: engines behind HTTP",
        what_to_do="run with --sut openai and do not edit the bundle",
        checks=("checker.external.check_external",),
    ),
    Rule(
        id="E-02",
        title="An external engine's weights are not checked",
        text="Rules about weights cannot look into a server, nor R-05 weigh it: whether it runs "
        "the reference's weights, and at how many bits, is its owner's word. All other rules hold; "
        "such results are ranked among themselves only.",
        why="A reader should know what nobody verified.",
        source="ours: engines behind HTTP",
        what_to_do="compare it on your own machine; to be ranked among INT4, use the kernel int4",
        applies_to=EXTERNAL,
        severity="warning",
        checks=("checker.external.check_external",),
    ),
)
