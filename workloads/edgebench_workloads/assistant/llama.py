"""The assistant's reference model: a small Llama with its loss, greedy answers and export."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from edgebench_workloads.assistant.dataset import Pair
from edgebench_workloads.assistant.tokenizer import (
    BOS,
    EOS,
    PAD,
    VOCABULARY_SIZE,
    call_ids,
    prompt_ids,
    save_tokenizer,
)

MAX_ANSWER_TOKENS = 48
IGNORED = -100


def reference_config(
    *, hidden: int = 256, intermediate: int = 768, layers: int = 6, heads: int = 8
) -> LlamaConfig:
    """The reference architecture of 5,246,208 parameters; smaller sizes are for tests.

    Two query heads share one key-value head.
    """
    return LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        head_dim=hidden // heads,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )


def encode(tokenizer: Tokenizer, pair: Pair) -> tuple[list[int], int]:
    """Token ids of prompt and answer, and the length of the prompt."""
    prompt = prompt_ids(tokenizer, pair.command)
    return prompt + call_ids(tokenizer, pair.call), len(prompt)


def collate(examples: Sequence[tuple[list[int], int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids [B, T] and next-token targets [B, T], IGNORED but on the answer's tokens."""
    longest = max(len(ids) for ids, _ in examples)
    inputs = torch.full((len(examples), longest - 1), PAD)
    targets = torch.full((len(examples), longest - 1), IGNORED)
    for row, (ids, prompt) in enumerate(examples):
        inputs[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        targets[row, prompt - 1 : len(ids) - 1] = torch.tensor(ids[prompt:])
    return inputs, targets


def answer_logits(
    model: LlamaForCausalLM, inputs: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Logits [answer tokens, vocabulary]; being causal, it needs no mask for right padding."""
    hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state
    logits: torch.Tensor = model.lm_head(hidden[targets != IGNORED])
    return logits.float()


def loss_of(model: LlamaForCausalLM, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats of the answers' tokens."""
    return cross_entropy(answer_logits(model, inputs, targets), targets[targets != IGNORED])


@torch.no_grad()
def teacher_forced_match(
    model: LlamaForCausalLM, examples: Sequence[tuple[list[int], int]], batch: int = 64
) -> float:
    """Percent of answers that greedy decoding would produce token for token.

    A lower bound of exact match, from one forward pass.
    """
    matched = 0
    ordered = sorted(examples, key=lambda e: len(e[0]))
    for start in range(0, len(ordered), batch):
        inputs, targets = (ids.to(model.device) for ids in collate(ordered[start : start + batch]))
        wrong = torch.zeros_like(targets, dtype=torch.bool)
        answered = targets != IGNORED
        wrong[answered] = answer_logits(model, inputs, targets).argmax(-1) != targets[answered]
        matched += int((~wrong.any(-1)).sum())
    return 100.0 * matched / len(examples)


@torch.no_grad()
def greedy_answers(
    model: LlamaForCausalLM, tokenizer: Tokenizer, commands: Sequence[str], batch: int = 50
) -> list[str]:
    """Greedy answers of at most 48 tokens; a batch holds prompts of one length, none padded."""
    answers: dict[int, str] = {}
    prompts = {i: prompt_ids(tokenizer, c) for i, c in enumerate(commands)}
    for length in sorted({len(p) for p in prompts.values()}):
        rows = [i for i, p in prompts.items() if len(p) == length]
        for part in (rows[s : s + batch] for s in range(0, len(rows), batch)):
            ids = torch.tensor([prompts[i] for i in part])
            made = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=MAX_ANSWER_TOKENS,
            )
            texts = tokenizer.decode_batch(made[:, length:].tolist(), skip_special_tokens=True)
            answers.update(zip(part, texts, strict=True))
    return [answers[i] for i in range(len(commands))]


def export(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes a Hugging Face directory with fp16 weights; replaces the folder once complete."""
    fresh, old = (folder.with_name(f"{folder.name}.{suffix}") for suffix in ("new", "old"))
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    copy.deepcopy(model).half().save_pretrained(fresh)
    save_tokenizer(tokenizer, fresh)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
