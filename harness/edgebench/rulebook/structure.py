"""Structure: the bundle is what it says it is."""

from __future__ import annotations

from edgebench.rulebook.rule import Rule

RULES = (
    Rule(
        id="S-01",
        title="Only the known files, plain and small",
        text="A bundle holds the files of the layout and nothing else: no links, no folders, no "
        "name that leaves the folder, no file over its size limit, no more rows than the limit.",
        why="A bundle comes from a stranger; reading it must be safe.",
        source="docs/design.md §5",
        what_to_do="remove what does not belong, or make the bundle again with bench run",
        checks=("bundle_reader.read_bundle",),
    ),
    Rule(
        id="S-02",
        title="The folder agrees with the record",
        text="The path's last six parts are division, organisation, system, workload, scenario and "
        "run id, and equal the record's fields; the record's system is that of system.json.",
        why="A leaderboard reads the tree; a bundle filed under another name would mislead.",
        source="MLPerf submission_rules.adoc, directory structure",
        what_to_do="move the folder to where the record belongs",
        checks=(
            "bundle_reader.read_bundle",
            "checker.structure.check_system",
        ),
    ),
    Rule(
        id="S-03",
        title="Checksums cover every file",
        text="SHA256SUMS lists every other file exactly once, each with its sha256.",
        why="A flipped bit or an edited row must be noticed.",
        source="docs/design.md §5",
        what_to_do="copy the bundle again from where it was measured",
        checks=("bundle_reader.read_bundle",),
    ),
    Rule(
        id="S-04",
        title="Every file follows its schema",
        text="Each file is strict JSON (no NaN, no repeated key, no unknown key) of the published "
        "schema.",
        why="What cannot be read exactly cannot be checked.",
        source="docs/schema",
        what_to_do="make the bundle again with bench run",
        checks=("bundle_reader.read_bundle",),
    ),
    Rule(
        id="S-05",
        title="The run is complete",
        text="The record says complete and SHA256SUMS exists.",
        why="Half a run must never pass for a whole one.",
        source="docs/design.md §9",
        what_to_do="finish it with bench run --resume",
        checks=("bundle_reader.read_bundle",),
    ),
    Rule(
        id="S-06",
        title="The reference and one candidate, once each",
        text="The record holds one result for fp16 and exactly one more, for int4 or for external, "
        "and every row belongs to one of the two.",
        why="A ratio needs its reference, measured in the same run.",
        source="docs/design.md §6",
        what_to_do="run with --kernel fp16,int4, or with --sut openai",
        checks=("checker.structure.check_kernels",),
        is_gate=True,
    ),
    Rule(
        id="S-07",
        title="The verdict in the record is the checker's",
        text="A result that the rules make invalid says valid: false with reasons; a valid one has "
        "no reasons.",
        why="The record is shown where nobody runs the checker.",
        source="docs/design.md §5",
        what_to_do="make the bundle again with bench run",
        checks=("checker.derivation.check_verdict",),
    ),
)
