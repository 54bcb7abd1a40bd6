"""The engine computes what transformers computes: logits within 1e-4 in fp32, the same tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.engine import RegimeChoice, build_fp16, load_reference  # noqa: E402

pytestmark = pytest.mark.torch

FP32 = RegimeChoice.uniform("fp32")
TOLERANCE = 1e-4  # fp32 rounding, summed in another order
TRAINED = Path(__file__).parents[2] / "workloads/edgebench_workloads/assistant/model"


def engine_of(directory: Path, **room):
    return build_fp16(
        load_reference(directory),
        FP32,
        **{"max_batch": 6, "max_length": 80, "cell": "fp32", **room},
    )


def padded(rows):
    lengths = [len(row) for row in rows]
    ids = torch.full((len(rows), max(lengths)), 3)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
    return ids, lengths


@torch.inference_mode()
def logits_of(reference, row):
    return reference(torch.tensor([row])).logits[0]


@torch.inference_mode()
def greedy_of(reference, row, new, eos_id):
    """transformers' own generate; the mask says that no token of the prompt is padding."""
    ids = torch.tensor([row])
    out = reference.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        do_sample=False,
        eos_token_id=eos_id,
        pad_token_id=0,
    )
    return out[0, len(row) :].tolist()


def largest_difference(a, b) -> float:
    return float((a - b).abs().max())


def test_logits_at_every_position_in_a_padded_batch(checkpoint, reference_of, prompts) -> None:
    reference = reference_of(checkpoint)
    logits = engine_of(checkpoint).forward_all(*padded(prompts))
    for row, prompt in enumerate(prompts):
        expected = logits_of(reference, prompt)
        assert largest_difference(logits[row, : len(prompt)], expected) <= TOLERANCE
        assert not logits[row, len(prompt) :].any()


@pytest.mark.parametrize("length", [1, 2, 7, 80])
def test_logits_of_one_prompt(checkpoint, reference_of, length: int) -> None:
    row = torch.randint(0, 200, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    logits = engine_of(checkpoint).forward_all(torch.tensor([row]), [length])
    assert largest_difference(logits[0], logits_of(reference_of(checkpoint), row)) <= TOLERANCE


def test_equal_lengths_in_wider_ids(checkpoint, reference_of, prompts) -> None:
    rows = [prompts[3][:9], prompts[4][:9]]
    ids = torch.cat([torch.tensor(rows), torch.zeros(2, 4, dtype=torch.long)], 1)
    logits = engine_of(checkpoint).forward_all(ids, torch.tensor([9, 9]))
    assert logits.shape[:2] == (2, 13)
    for row in range(2):
        expected = logits_of(reference_of(checkpoint), rows[row])
        assert largest_difference(logits[row, :9], expected) <= TOLERANCE


@pytest.mark.parametrize("batch", [1, 3, 6])  # both forms of attention to the cache
def test_prefill_then_decode(checkpoint, reference_of, prompts, batch: int) -> None:
    reference, engine = reference_of(checkpoint), engine_of(checkpoint)
    rows = [list(prompt) for prompt in prompts[:batch]]
    logits = engine.prefill(*padded(rows))
    for step in range(4):
        for row, prompt in enumerate(rows):
            expected = logits_of(reference, prompt)[-1]
            assert largest_difference(logits[row], expected) <= TOLERANCE, f"row {row} step {step}"
        ids = torch.arange(batch) + 10 * step
        for row, token in enumerate(ids.tolist()):
            rows[row].append(token)
        logits = engine.decode(ids)


def test_greedy_answers_are_the_same_tokens(checkpoint, reference_of, prompts) -> None:
    reference, engine = reference_of(checkpoint), engine_of(checkpoint)
    free = [greedy_of(reference, prompt, 24, eos_id=None) for prompt in prompts]
    # A token that some rows say early and others late or never: rows leave at different steps.
    eos_id = free[0][2]
    expected = [greedy_of(reference, prompt, 24, eos_id) for prompt in prompts]
    assert len({len(answer) for answer in expected}) > 1
    assert engine.generate_greedy(prompts, 24, None) == free
    assert engine.generate_greedy(prompts, 24, eos_id) == expected
    alone = [engine.generate_greedy([prompt], 24, eos_id)[0] for prompt in prompts]
    assert alone == expected


def test_a_second_batch_sees_nothing_of_the_first(tied, prompts) -> None:
    engine = engine_of(tied)
    fresh = engine_of(tied).generate_greedy(prompts[:2], 10, None)
    engine.generate_greedy(prompts, 40, None)
    assert engine.generate_greedy(prompts[:2], 10, None) == fresh


@pytest.mark.skipif(not TRAINED.is_dir(), reason="the trained assistant is not in this checkout")
def test_trained_assistant(reference_of) -> None:
    reference = reference_of(TRAINED)
    engine = engine_of(TRAINED, max_length=120)
    size = engine.config.vocab_size
    generator = torch.Generator().manual_seed(5)
    rows = [torch.randint(0, size, (n,), generator=generator).tolist() for n in (3, 40, 21)]
    logits = engine.forward_all(*padded(rows))
    for row, prompt in enumerate(rows):
        expected = logits_of(reference, prompt)
        assert largest_difference(logits[row, : len(prompt)], expected) <= TOLERANCE
    expected = [greedy_of(reference, prompt, 16, eos_id=None) for prompt in rows]
    assert engine.generate_greedy(rows, 16, None) == expected
