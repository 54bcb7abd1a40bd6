"""Quality: the answers are right, and are the same answers."""

from __future__ import annotations

from edgebench import profiles as p
from edgebench.rulebook.rule import CLOSED, MLPERF, Rule

RULES = (
    Rule(
        id="Q-01",
        title="Accuracy follows from the outputs",
        text="The output ids are decoded with the workload's tokenizer and compared with the "
        "answers; each distinct sample counts once; the fraction must be equal.",
        why="No published number is taken on trust.",
        source="docs/design.md §5",
        what_to_do="do not edit record.json; run again",
        checks=("checker.derivation.check_numbers",),
    ),
    Rule(
        id="Q-02",
        title="The accuracy gate",
        text=f"Closed track: accuracy is at least {p.ACCURACY_TARGET:.0%} of this run's fp16 "
        f"reference ({p.HIGH_ACCURACY_TARGET:.1%} is reported as high accuracy).",
        why="Speed that costs the answer is no gain.",
        source=f"{MLPERF}: 99 % and 99.9 % of the reference",
        what_to_do="use a gentler transform, or the open track",
        applies_to=CLOSED,
        checks=("checker.accuracy.check_gate",),
    ),
    Rule(
        id="Q-03",
        title="The reference is as good as the pinned one",
        text="The fp16 accuracy is not below the task's by more than "
        f"{p.PINNED_SLACK} (and {p.PINNED_SIGMAS:.0f} binomial deviations on a subset).",
        why="A weak reference makes any gate easy.",
        source="docs/design.md §4",
        what_to_do="check the weights and the build; run again",
        checks=("checker.accuracy.check_reference",),
    ),
    Rule(
        id="Q-04",
        title="The length corridor",
        text=f"Output tokens lie within {p.LENGTH_CORRIDOR[0]:.0%} to {p.LENGTH_CORRIDOR[1]:.0%} "
        "of the fp16 outputs on the same samples.",
        why="Short answers are fast answers.",
        source=f"{MLPERF}, generative models; compliance TEST09",
        what_to_do="find out why the transform changes the length",
        applies_to=CLOSED,
        checks=("checker.accuracy.check_gate",),
    ),
    Rule(
        id="Q-05",
        title="Performance outputs are the accuracy outputs",
        text="Greedy decoding is deterministic: the same kernel gives the same sample the same "
        f"output in both modes and in every round, up to {p.OUTPUT_MISMATCH_LIMIT:.0%} of outputs "
        "whose near-ties fall the other way in a batch of another size.",
        why="The timed model must be the scored model.",
        source="MLPerf compliance TEST01, on whole outputs",
        what_to_do="make both modes run the same code",
        checks=("checker.accuracy.check_same_outputs",),
    ),
    Rule(
        id="Q-06",
        title="The call's likelihood follows from its rows",
        text="call_nll = sum(nll) / sum(tokens) over nll.jsonl; both kernels cover the same "
        "samples, each once, with the task's token counts. An external engine shows text alone and "
        "has none. Of images it is the right class's, one row one token.",
        why="Exact match alone cannot see four bits.",
        source="docs/design.md §4",
        what_to_do="do not edit record.json; run again",
        checks=(
            "checker.derivation.check_numbers",
            "checker.accuracy.check_nll",
        ),
    ),
    Rule(
        id="Q-07",
        title="Enough was scored",
        text="The whole scored set is scored, unless the profile scores a large model on its "
        "performance outputs.",
        why="A subset can be chosen.",
        source=f"{MLPERF}: all samples of the validation set; profiles.py",
        what_to_do="run the accuracy mode to its end",
        checks=("checker.accuracy.check_coverage",),
    ),
    Rule(
        id="Q-08",
        title="Outputs are whole token sequences",
        text="At most one end-of-sequence, and it is last; every id is in the vocabulary; the "
        "length is within the task's limit; an output that does not end has the full length (an "
        "external engine's text is encoded again, so it may have fewer tokens). Of images: exactly "
        "one id, of a class that there is.",
        why="A truncated or padded output falsifies tokens/s.",
        source="MLPerf compliance TEST06",
        what_to_do="run again without changing max_new_tokens",
        checks=("checker.accuracy.check_outputs",),
        is_gate=True,
    ),
)
