"""Greedy generation: callbacks, rows that leave the batch, requests that cannot be served."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.engine import RegimeChoice, build_fp16, load_reference  # noqa: E402

pytestmark = pytest.mark.torch

ANSWER_LENGTHS = [3, 1, 6, 2, 6, 4]
EOS = 1


@pytest.fixture
def engine(tied):
    weights = load_reference(tied)
    return build_fp16(weights, RegimeChoice.uniform("fp32"), max_batch=6, max_length=40)


@pytest.fixture
def scripted(engine, monkeypatch):
    """An engine that ends prompt [i] after ANSWER_LENGTHS[i] tokens; counts rows per decode."""
    state = {"rows": [], "said": [], "decoded": []}

    def logits():
        table = torch.zeros(len(state["rows"]), engine.config.vocab_size)
        for row, prompt in enumerate(state["rows"]):
            state["said"][row] += 1
            is_last = state["said"][row] == ANSWER_LENGTHS[prompt]
            table[row, EOS if is_last else 100 + prompt] = 1.0
        return table

    def prefill(ids, lengths):
        state.update(rows=ids[:, 0].tolist(), said=[0] * len(ids), decoded=[])
        engine.cache.reset(lengths)
        return logits()

    def decode(ids):
        assert ids.tolist() == [100 + prompt for prompt in state["rows"]]
        state["decoded"].append(len(ids))
        return logits()

    def keep(rows):
        order = engine.cache.keep(rows)
        for name in ("rows", "said"):
            state[name] = [state[name][row] for row in order]
        return order

    for name, method in (("prefill", prefill), ("decode", decode), ("keep", keep)):
        monkeypatch.setattr(engine, name, method)
    return engine, state


def test_finished_rows_leave_the_batch_and_answers_keep_their_place(scripted) -> None:
    engine, state = scripted
    answers = engine.generate_greedy([[i] for i in range(6)], 20, EOS)
    assert answers == [[100 + i] * (n - 1) + [EOS] for i, n in enumerate(ANSWER_LENGTHS)]
    assert state["decoded"] == [sum(n > step for n in ANSWER_LENGTHS) for step in range(1, 6)]


def test_callbacks_come_once_per_prompt_and_in_time(scripted) -> None:
    engine, state = scripted
    events = []
    engine.generate_greedy(
        [[i] for i in range(6)],
        20,
        EOS,
        on_first_token=lambda place: events.append(("first", place, len(state["decoded"]))),
        on_complete=lambda place, ids: events.append((len(ids), place, len(state["decoded"]))),
    )
    assert events[:6] == [("first", place, 0) for place in range(6)]
    # A row of n tokens is complete after n - 1 decode steps.
    assert sorted(events[6:]) == sorted((n, i, n - 1) for i, n in enumerate(ANSWER_LENGTHS))


def test_max_new_tokens_ends_an_answer(scripted) -> None:
    engine, state = scripted
    assert engine.generate_greedy([[2], [0]], 4, EOS) == [[102] * 4, [100, 100, EOS]]
    assert state["decoded"] == [2, 2, 1]
    assert engine.generate_greedy([[2]], 1, EOS) == [[102]]
    assert state["decoded"] == []


def test_the_cache_may_be_filled_to_its_last_column(engine) -> None:
    prompt = list(range(30))
    assert len(engine.generate_greedy([prompt], 11, None)[0]) == 11
    with pytest.raises(ValueError, match=r"prompt 0 has 30 tokens.*41 columns.*max_length=40"):
        engine.generate_greedy([prompt], 12, None)
    engine.prefill(torch.tensor([list(range(40))]), [40])
    with pytest.raises(ValueError, match="the KV cache is full: max_length=40"):
        engine.decode(torch.tensor([0]))


@pytest.mark.parametrize(
    ("prompts", "new", "message"),
    [
        ([], 4, r"between 1 and max_batch=6 prompts, got 0"),
        ([[1]] * 7, 4, r"between 1 and max_batch=6 prompts, got 7"),
        ([[1], []], 4, "prompt 1 is empty"),
        ([[1]], 0, "max_new_tokens must be >= 1, got 0"),
        ([[1, 211]], 4, r"token ids must be 0\.\.210, got 1\.\.211"),
        ([[1, -2]], 4, r"token ids must be 0\.\.210, got -2\.\.1"),
    ],
)
def test_bad_requests(engine, prompts, new: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine.generate_greedy(prompts, new, None)


@pytest.mark.parametrize(
    ("ids", "lengths", "message"),
    [
        ([[1, 2]], [3], r"lengths must be 1\.\.2"),
        ([[1, 2]], [0], r"lengths must be 1\.\.2"),
        ([[1, 2]], [2, 2], r"B=2 lengths, got \[1, 2\]"),
        ([[1]] * 7, [1] * 7, r"batch must be 1\.\.6, got 7"),
        ([[1] * 41], [41], r"41 tokens but the cache holds max_length=40"),
    ],
)
def test_bad_prefill(engine, ids, lengths, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine.prefill(torch.tensor(ids), lengths)


def test_decode_needs_one_token_per_active_row(engine) -> None:
    engine.prefill(torch.tensor([[1], [2]]), [1, 1])
    with pytest.raises(ValueError, match="2 active rows, got shape"):
        engine.decode(torch.tensor([1]))


def test_overflow_is_an_error_and_not_an_answer(engine) -> None:
    engine.linears["lm_head"] = lambda hidden: torch.full((len(hidden), 211), torch.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        engine.generate_greedy([[1, 2]], 4, None)
