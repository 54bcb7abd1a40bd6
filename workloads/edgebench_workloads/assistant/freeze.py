"""Writes what is pinned about the data: both held-out files, their hashes, counts and baseline.

`python -m edgebench_workloads.assistant.freeze` takes some minutes, nearly all for the baseline.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tokenizers

from edgebench_workloads.assistant.baseline import NearestNeighbor
from edgebench_workloads.assistant.dataset import (
    CALIBRATION_COUNT,
    HASHED_TRAINING_COUNT,
    SCORED_COUNT,
    Pair,
    held_out,
    pairs_sha256,
    to_jsonl,
    training_pairs,
)
from edgebench_workloads.assistant.frames import FRAMES
from edgebench_workloads.assistant.grammar import plain_pairs_lower_bound
from edgebench_workloads.assistant.quality import exact_match_percent
from edgebench_workloads.assistant.tokenizer import (
    TRAINING_PAIRS,
    call_ids,
    load_tokenizer,
    prompt_ids,
    save_tokenizer,
    train_tokenizer,
)


def token_statistics(folder: Path, pairs: Sequence[Pair]) -> dict[str, float]:
    """Tokens of prompts (with <bos> and <call>) and of answers (with <eos>)."""
    tokenizer = load_tokenizer(folder)
    prompts = [len(prompt_ids(tokenizer, p.command)) for p in pairs]
    answers = [len(call_ids(tokenizer, p.call)) for p in pairs]
    return {
        "prompt_mean": round(sum(prompts) / len(prompts), 2),
        "prompt_max": max(prompts),
        "answer_mean": round(sum(answers) / len(answers), 2),
        "answer_max": max(answers),
    }


def baseline_percent(model: NearestNeighbor, pairs: Sequence[Pair]) -> dict[str, float]:
    """Exact match, and how often at least the function is right."""
    answers = [model.answer(p.command) for p in pairs]
    same = [
        json.loads(a)["fn"] == json.loads(p.call)["fn"] for a, p in zip(answers, pairs, strict=True)
    ]
    return {
        "exact_match_percent": exact_match_percent(answers, [p.call for p in pairs]),
        "function_percent": 100.0 * sum(same) / len(same),
    }


def facts(scored: Sequence[Pair], calibration: Sequence[Pair]) -> dict[str, Any]:
    """Everything that hashes.json says.

    The baseline is given on the scored set, where no call was ever seen in training, and on the
    next 1,000 training examples, where most calls were.
    """
    training = training_pairs(HASHED_TRAINING_COUNT)
    neighbor = NearestNeighbor(training)
    with TemporaryDirectory() as name:
        folder = Path(name)
        save_tokenizer(train_tokenizer(training[:TRAINING_PAIRS]), folder)
        tokenizer_bytes = (folder / "tokenizer.json").read_bytes()
        statistics = token_statistics(folder, scored)
    return {
        "scored_sha256": pairs_sha256(scored),
        "calibration_sha256": pairs_sha256(calibration),
        "training_100000_sha256": pairs_sha256(training),
        "tokenizer_sha256": hashlib.sha256(tokenizer_bytes).hexdigest(),
        "tokenizers_version": tokenizers.__version__,
        "functions": len({f.fn for f in FRAMES}),
        "distinct_calls": sum(f.combinations for f in FRAMES),
        "distinct_pairs_at_least": plain_pairs_lower_bound(),
        "scored_tokens": statistics,
        "nearest_neighbor_100000": {
            "scored": baseline_percent(neighbor, scored),
            "training_stream": baseline_percent(
                neighbor, training_pairs(SCORED_COUNT, start=HASHED_TRAINING_COUNT)
            ),
        },
    }


def main() -> None:
    """Writes scored.jsonl, calibration.jsonl and hashes.json beside this file."""
    here = Path(__file__).parent
    scored = held_out("scored", SCORED_COUNT)
    calibration = held_out("calibration", CALIBRATION_COUNT)
    (here / "scored.jsonl").write_bytes(to_jsonl(scored))
    (here / "calibration.jsonl").write_bytes(to_jsonl(calibration))
    content = json.dumps(facts(scored, calibration), indent=2) + "\n"
    (here / "hashes.json").write_text(content, encoding="ascii")


if __name__ == "__main__":
    main()
