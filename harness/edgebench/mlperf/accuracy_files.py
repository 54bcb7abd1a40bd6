"""The accuracy folder: `mlperf_log_accuracy.json`, cut as MLPerf cuts it, and `accuracy.txt`."""

from __future__ import annotations

import json
import struct

from edgebench.codec import sha256_bytes
from edgebench.mlperf.kernel_run import NOTICE, KernelRun

KEPT_BYTES = 4096  # at each end; the checker takes 10 KiB in all (MAX_ACCURACY_LOG_SIZE)
LIMIT_BYTES = 10 * 1024


def accuracy_log(run: KernelRun) -> bytes:
    """Return the whole log: one entry per scored sample, its answer as int64, little endian.

    An answer is its token ids, counted beside them, or one class.
    """
    entries = [
        {
            "seq_id": place,
            "qsl_idx": sample,
            "data": struct.pack(f"<{len(ids)}q", *ids).hex().upper(),
            **({"token_count": len(ids)} if run.is_streamed else {}),
        }
        for place, (sample, ids) in enumerate(sorted(run.scored.items()))
    ]
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    return f"[\n{lines}\n]\n".encode()


def truncated(log: bytes) -> bytes:
    """Keep both ends of a log that is too long for a submission."""
    if len(log) <= LIMIT_BYTES:
        return log
    return log[:KEPT_BYTES] + b"\n\n...\n\n" + log[-KEPT_BYTES:]


def accuracy_text(run: KernelRun, log: bytes) -> str:
    """Write `accuracy.txt`: the metric, output lengths, and the hash of the whole log.

    In the words of MLPerf's scripts: of language models, and of image classification.
    """
    is_right = run.workload.answers.is_right
    right = sum(is_right(sample, ids) for sample, ids in run.scored.items())
    count = len(run.scored)
    metrics = f"accuracy={100 * right / count:.3f}%, good={right}, total={count}"
    if run.is_streamed:
        tokens = sum(map(len, run.scored.values()))
        metrics = (
            f"{{'exact_match': {100 * right / count:.3f}, 'gen_len': {tokens}, "
            f"'gen_num': {count}, 'tokens_per_sample': {tokens / count:.3f}}}"
        )
    where = "" if run.had_accuracy_run else "Scored on the outputs of the performance run.\n"
    return f"{NOTICE}\n{where}{metrics}\nhash={sha256_bytes(log)}\n"
