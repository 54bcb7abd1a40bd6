"""Training: resume changes nothing, the schedule, and a directory that transformers loads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import transformers  # noqa: E402

from edgebench_workloads import training  # noqa: E402
from edgebench_workloads.assistant import llama, train  # noqa: E402
from edgebench_workloads.assistant import tokenizer as bpe  # noqa: E402
from edgebench_workloads.assistant.dataset import Pair, training_pairs  # noqa: E402
from edgebench_workloads.assistant.quality import is_exact_match  # noqa: E402

TINY = train.Settings(
    out=Path(),
    steps=8,
    batch=4,
    threads=1,
    workers=0,
    every_steps=4,
    hidden=32,
    layers=2,
    peak_rate=1e-2,
)


@pytest.fixture(scope="module", autouse=True)
def small_and_restored() -> Iterator[None]:
    """Few validation examples and a short tokenizer corpus; the thread count as it was."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "VALIDATION_COUNT", 6)
        patch.setattr(train, "TRAINING_PAIRS", 5000)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> train.Run:
    return train.train(replace(TINY, out=tmp_path_factory.mktemp("whole")))


@pytest.fixture(scope="module")
def tokenizer() -> bpe.Tokenizer:
    return bpe.train_tokenizer(training_pairs(5000))


def assert_same_weights(first: train.Run, second: train.Run) -> None:
    for (name, a), b in zip(
        first.model.state_dict().items(), second.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name


def test_resume_gives_the_weights_of_an_uninterrupted_run(
    finished: train.Run, tmp_path: Path
) -> None:
    train.train(replace(TINY, out=tmp_path, stop_after=3))
    resumed = train.train(replace(TINY, out=tmp_path, resume=True))
    assert resumed.step == finished.step == 8
    assert_same_weights(resumed, finished)


def test_another_seed_gives_other_weights(finished: train.Run, tmp_path: Path) -> None:
    other = train.train(replace(TINY, out=tmp_path, seed=7, stop_after=1))
    weights = [r.model.model.embed_tokens.weight for r in (other, finished)]
    assert not torch.equal(*weights)


def test_the_curve_is_written(tmp_path: Path) -> None:
    train.train(replace(TINY, out=tmp_path))
    curve = json.loads((tmp_path / "learning_curve.json").read_text())
    assert [p["step"] for p in curve] == [4, 8]
    assert [p["examples"] for p in curve] == [16, 32]


def test_resume_without_a_checkpoint_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--resume needs"):
        train.train(replace(TINY, out=tmp_path, resume=True))


def test_transformers_loads_the_directory(tmp_path: Path) -> None:
    run = train.train(replace(TINY, out=tmp_path, stop_after=1))
    folder = tmp_path / "latest"
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert type(loaded).__name__ == "LlamaForCausalLM"
    assert torch.equal(loaded.lm_head.weight, run.model.lm_head.weight.half())
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    own = bpe.load_tokenizer(folder)
    command = "wake me up at 7:30 am on monday"
    assert tokenizer(command)["input_ids"] == own.encode(command).ids


def test_the_rate_warms_up_stays_and_falls_to_zero() -> None:
    settings = replace(TINY, steps=4000, peak_rate=1.0)
    rates = [train.learning_rate(s, settings) for s in (0, 99, 199, 2000, 3000, 3500, 3999)]
    assert rates == pytest.approx([1 / 200, 0.5, 1.0, 1.0, 1.0, 0.5, 1 / 1000])


def test_more_steps_do_not_change_the_start() -> None:
    short, long = (replace(TINY, steps=s) for s in (4000, 8000))
    same = [train.learning_rate(s, short) == train.learning_rate(s, long) for s in range(3001)]
    assert all(same)


def drawn(tokenizer: bpe.Tokenizer, first: int, count: int) -> list[list[list[int]]]:
    """Inputs and targets of some batches, as lists."""
    settings = replace(TINY, steps=first + count)
    batches = train.batches(tokenizer, training.Progress(step=first), settings)
    return [[part.tolist() for part in next(batches)] for _ in range(count)]


def test_batches_can_start_anywhere(tokenizer: bpe.Tokenizer) -> None:
    whole = drawn(tokenizer, 0, train.WINDOW + 3)
    assert drawn(tokenizer, train.WINDOW + 2, 1) == whole[-1:]
    assert drawn(tokenizer, 5, 2) == whole[5:7]


def test_a_window_has_every_example_once(tokenizer: bpe.Tokenizer) -> None:
    window = train.window_batches(tokenizer, 0, size=TINY.batch, seed=TINY.seed)
    examples = [llama.encode(tokenizer, p) for p in training_pairs(train.WINDOW * TINY.batch)]
    assert sorted(e for batch in window for e in batch) == sorted(examples)


def test_targets_are_the_answer_alone(tokenizer: bpe.Tokenizer) -> None:
    pairs = training_pairs(3)
    inputs, targets = llama.collate([llama.encode(tokenizer, p) for p in pairs])
    assert inputs.shape == targets.shape
    for row, pair in zip(range(3), pairs, strict=True):
        answer = targets[row][targets[row] != llama.IGNORED].tolist()
        assert answer == bpe.call_ids(tokenizer, pair.call)


def test_the_reference_has_5_million_parameters() -> None:
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(llama.reference_config())
    assert sum(p.numel() for p in model.parameters()) == 5_246_208


def test_a_memorized_call_is_answered_and_matched(tokenizer: bpe.Tokenizer) -> None:
    """Overfits two pairs, so that both ways to measure exact match see a success and a failure."""
    torch.manual_seed(0)
    pairs = training_pairs(2)
    examples = [llama.encode(tokenizer, p) for p in pairs]
    model = transformers.LlamaForCausalLM(
        llama.reference_config(hidden=64, intermediate=192, layers=2)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = llama.loss_of(model, *llama.collate(examples))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    answers = llama.greedy_answers(model, tokenizer, [p.command for p in pairs])
    assert [is_exact_match(a, p.call) for a, p in zip(answers, pairs, strict=True)] == [True, True]
    stranger = llama.encode(tokenizer, Pair(command="lock the shed", call='{"fn":"lock"}'))
    assert llama.teacher_forced_match(model, [*examples, stranger]) == pytest.approx(200 / 3)
