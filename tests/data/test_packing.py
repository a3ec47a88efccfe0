from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import tiny
from linnet.config import RequestError
from linnet.data.batches import IGNORE, Batch
from linnet.data.examples import Example
from linnet.data.packing import BucketedBatches, PackedExamples, best_fit
from linnet.model import Transformer, initialize
from linnet.objectives.next_token import NextToken

PAD = 0  # also what ends every example here, as where a tokenizer has no padding token
LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=60)


def example(places: int, draw: np.random.Generator, opens: int | None = None) -> Example:
    """A prompt that is not learned, an answer that is, and PAD at its end; `opens` is its first token."""
    tokens = draw.integers(1, 97, places + 1)
    tokens[-1] = PAD
    if opens is not None:
        tokens[0] = opens
    return Example(tokens.astype(np.uint16), np.arange(places + 1) > draw.integers(0, places))


def examples_of(lengths: list[int] | np.ndarray, seed: int = 0, named: bool = False) -> list[Example]:
    """Examples of these lengths; named: the first token of example i is 1000 + i, as no other token is."""
    draw = np.random.default_rng(seed)
    return [example(int(n), draw, 1000 + i if named else None) for i, n in enumerate(lengths)]


def chat_lengths(count: int, seed: int = 1) -> np.ndarray:
    """Lengths as conversations have them: most short, some long."""
    return np.random.default_rng(seed).lognormal(4.5, 0.8, count).clip(2, 1024).astype(np.int64)


def in_epoch(source: PackedExamples | BucketedBatches, epoch: int) -> list[list[int]]:
    return [source.rows(i).tolist() for i in range(source.first(epoch), source.first(epoch + 1))]


def whole_epoch(packed: PackedExamples, epoch: int = 0) -> Batch:
    return packed.batch(np.arange(packed.first(epoch), packed.first(epoch + 1)))


def layout(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    assert batch.positions is not None
    assert batch.documents is not None
    return batch.positions, batch.documents


def alone(own: Example) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets [1, n] of an example as a row of its own, shifted here once more."""
    tokens = torch.from_numpy(own.tokens.astype(np.int64))
    learned = torch.from_numpy(own.learned)
    return tokens[None, :-1], tokens[1:].masked_fill(~learned[1:], IGNORE)[None]


def first_fit_decreasing(lengths: list[int], row_length: int) -> int:
    rows: list[int] = []
    for length in sorted(lengths, reverse=True):
        at = next((i for i, used in enumerate(rows) if used + length <= row_length), None)
        if at is None:
            rows.append(length)
        else:
            rows[at] += length
    return len(rows)


def best_fit_decreasing(lengths: list[int], row_length: int) -> list[int]:
    """What the rows hold, by trying every row for every example."""
    rows: list[int] = []
    for length in sorted(lengths, reverse=True):
        fits = [i for i, used in enumerate(rows) if used + length <= row_length]
        if fits:
            rows[max(fits, key=lambda i: rows[i])] += length
        else:
            rows.append(length)
    return rows


# --- best fit ------------------------------------------------------------------------------------


@given(LENGTHS, st.integers(20, 70))
@settings(max_examples=200, deadline=None)
def test_best_fit_holds_every_example_once_and_no_row_is_over(lengths: list[int], row_length: int) -> None:
    rows = best_fit(np.array(lengths), row_length)
    assert sorted(i for row in rows for i in row.tolist()) == list(range(len(lengths)))
    used = [sum(lengths[i] for i in row) for row in rows]
    assert max(used) <= row_length
    assert sorted(used) == sorted(best_fit_decreasing(lengths, row_length))
    shortest, first_fit = -(-sum(lengths) // row_length), first_fit_decreasing(lengths, row_length)
    assert shortest <= len(rows) <= 11 / 9 * first_fit + 6 / 9  # Dósa 2007: the bound of the best there is


@pytest.mark.parametrize("row_length", [1024, 2048])
def test_conversations_leave_next_to_nothing_empty(row_length: int) -> None:
    lengths = chat_lengths(3000)
    rows = len(best_fit(lengths, row_length))
    assert -(-lengths.sum() // row_length) <= rows <= 1.01 * lengths.sum() / row_length + 1
    assert rows <= first_fit_decreasing(lengths.tolist(), row_length) + 1


def test_a_million_examples_are_packed_in_seconds() -> None:
    lengths = np.random.default_rng(0).integers(1, 8193, 1_000_000)
    begin = time.perf_counter()
    rows = best_fit(lengths, 8192)
    assert time.perf_counter() - begin < 10
    assert sum(map(len, rows)) == len(lengths)
    assert len(rows) < 1.01 * lengths.sum() / 8192


def test_best_fit_of_nothing_and_of_what_cannot_fit() -> None:
    assert best_fit(np.array([], dtype=np.int64), 8) == []
    for lengths in ([9], [3, 0]):
        with pytest.raises(ValueError, match="1 to 8"):
            best_fit(np.array(lengths), 8)


# --- packed rows ---------------------------------------------------------------------------------


@given(LENGTHS, st.integers(20, 50), st.integers(1, 70), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_every_example_is_there_once_an_epoch_uncut(
    lengths: list[int], row_length: int, block: int, seed: int
) -> None:
    examples = examples_of(lengths, named=True)
    packed = PackedExamples(examples, row_length, seed, PAD, block=block)
    for epoch in (0, 1):
        batch = whole_epoch(packed, epoch)
        positions, documents = layout(batch)
        found = Counter[int]()
        for row, members in enumerate(in_epoch(packed, epoch)):
            for document, number in enumerate(members):
                here = documents[row] == document
                inputs, targets = alone(examples[number])
                assert torch.equal(batch.tokens[row][here], inputs[0])
                assert torch.equal(batch.targets[row][here], targets[0])
                assert positions[row][here].tolist() == list(range(lengths[number]))
                found[number] += 1
            empty = documents[row] == len(members)
            assert int(empty.sum()) == row_length - sum(lengths[number] for number in members)
            assert (batch.tokens[row][empty] == PAD).all()
            assert (batch.targets[row][empty] == IGNORE).all()
            assert positions[row][empty].tolist() == list(range(int(empty.sum())))
        assert found == Counter(range(len(lengths)))
        assert (documents.diff(dim=1) >= 0).all()
        assert (batch.targets < 1000).all()  # a first token is nobody's target


def test_learned_tokens_survive_and_the_end_is_learned_though_it_is_the_padding() -> None:
    examples = examples_of(chat_lengths(300))
    packed = PackedExamples(examples, 1024, 3, PAD)
    targets = whole_epoch(packed).targets
    expected = Counter(token for e in examples for token in e.tokens[e.learned].tolist())
    assert Counter(targets[targets != IGNORE].tolist()) == expected
    assert expected[PAD] >= len(examples)
    assert packed.report().targets == expected.total()


def network() -> Transformer:
    model = Transformer(tiny.spec())
    initialize(model, 3)
    return model


def logits_of(model: Transformer, *inputs: torch.Tensor | None) -> torch.Tensor:
    return model(*inputs) @ model.head_weight.T


def test_packed_is_as_separate_logits_loss_and_gradients() -> None:
    examples = examples_of(np.random.default_rng(2).integers(1, 30, 24))
    packed = PackedExamples(examples, 50, 5, PAD)
    batch = whole_epoch(packed)
    positions, documents = layout(batch)
    assert (documents.max(dim=1).values >= 2).any()
    model = network()
    logits = logits_of(model, batch.tokens, positions, documents)
    separate = torch.zeros(())
    for row, members in enumerate(in_epoch(packed, 0)):
        for document, number in enumerate(members):
            inputs, targets = alone(examples[number])
            expected = logits_of(model, inputs)
            found = logits[row][documents[row] == document]
            torch.testing.assert_close(found, expected[0], rtol=0, atol=1e-5)
            separate = separate + F.cross_entropy(expected[0], targets[0], reduction="sum")
    separate.backward()
    expected_gradients = tiny.gradients(model)
    model.zero_grad()
    loss = NextToken().loss(model, batch).sum
    loss.backward()
    torch.testing.assert_close(loss, separate, rtol=1e-5, atol=1e-5)
    for name, gradient in tiny.gradients(model).items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=1e-5)
    blind = logits_of(model, batch.tokens, positions)  # without documents they would see each other
    assert (blind - logits).abs().max() > 1e-3


def test_a_batch_with_nothing_to_learn_counts_nothing_and_teaches_nothing() -> None:
    examples = [Example(np.arange(1, 8), np.zeros(7, dtype=bool)) for _ in range(4)]
    packed = PackedExamples(examples, 16, 0, PAD)
    bucketed = BucketedBatches(examples, 16, 0, PAD, batch_size=4)
    assert packed.report().unlearned == bucketed.report().unlearned == 4
    for batch in (whole_epoch(packed), bucketed[0]):
        assert batch.counted == 0
        model = network()
        loss = NextToken().loss(model, batch).sum
        loss.backward()
        assert loss == 0
        assert all((gradient == 0).all() for gradient in tiny.gradients(model).values())


def test_two_epochs_and_two_seeds_differ_in_their_rows() -> None:
    examples = examples_of(chat_lengths(400))
    one, other = (PackedExamples(examples, 1024, seed, PAD, block=100) for seed in (1, 2))
    first, second, third = in_epoch(one, 0), in_epoch(one, 1), in_epoch(other, 0)
    for different in (second, third):
        assert len({tuple(row) for row in first} & {tuple(row) for row in different}) < len(first) / 4
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == PackedExamples(examples, 1024, 1, PAD, block=100).fingerprint
    assert one.fingerprint != PackedExamples(examples, 1024, 1, PAD, block=50).fingerprint
    assert one.fingerprint != PackedExamples(examples[:-1], 1024, 1, PAD, block=100).fingerprint


@pytest.mark.parametrize("kind", ["packed", "size", "budget"])
def test_a_sample_is_the_same_wherever_and_in_whatever_order_one_begins(kind: str) -> None:
    examples = examples_of(chat_lengths(500))

    def fresh() -> PackedExamples | BucketedBatches:
        if kind == "packed":
            return PackedExamples(examples, 1024, 4, PAD, block=60)
        how: dict[str, Any] = {"batch_size": 8} if kind == "size" else {"token_budget": 2048}
        return BucketedBatches(examples, 1024, 4, PAD, block=4, **how)

    source = fresh()
    expected = [source.rows(i).tolist() for i in range(source.first(3))]
    for start in (1, len(expected) // 2, len(expected) - 5):
        resumed = fresh()
        assert [resumed.rows(i).tolist() for i in range(start, len(expected))] == expected[start:]
    shared = fresh()
    backwards = range(len(expected) - 1, -1, -1)
    with ThreadPoolExecutor(4) as pool:
        assert [row.tolist() for row in pool.map(shared.rows, backwards)] == expected[::-1]
    with pytest.raises(IndexError):
        shared.rows(-1)


PROGRAM = """
import hashlib, sys
sys.path[:0] = {paths!r}
from test_packing import digest
print(digest())
"""


def digest() -> str:
    """Of some batches of both kinds."""
    examples = examples_of(chat_lengths(300))
    packed = PackedExamples(examples, 1024, 4, PAD, block=64)
    bucketed = BucketedBatches(examples, 1024, 4, PAD, token_budget=4096, group=2)
    batches = [packed.batch(np.arange(20, 60)), *(bucketed[step] for step in range(12))]
    data = b"".join(part.numpy().tobytes() for batch in batches for part in (batch.tokens, batch.targets))
    return hashlib.sha256(data + (packed.fingerprint + bucketed.fingerprint).encode()).hexdigest()


def test_another_process_makes_the_same_batches() -> None:
    here = Path(__file__).parent
    program = PROGRAM.format(paths=[str(here), str(here.parent)])
    environment = os.environ | {"PYTHONHASHSEED": "77"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert (done.stdout.strip(), done.stderr) == (digest(), "")


def test_rows_are_shuffled_within_a_block() -> None:
    """Best fit makes the rows of long examples first; an epoch must not begin with them."""
    lengths = chat_lengths(4000)
    packed = PackedExamples(examples_of(lengths), 1024, 6, PAD)
    longest = np.array([lengths[row].max() for row in in_epoch(packed, 0)])
    assert abs(np.corrcoef(np.arange(len(longest)), longest)[0, 1]) < 0.2
    rows = np.array([lengths[row].max() for row in best_fit(lengths, 1024)])
    assert np.corrcoef(np.arange(len(rows)), rows)[0, 1] < -0.8


@pytest.mark.parametrize("block", [100, 100_000])
def test_waste_is_the_share_of_places_without_a_token(block: int) -> None:
    lengths = chat_lengths(1000)
    packed = PackedExamples(examples_of(lengths), 1024, 6, PAD, block=block)
    for epoch in (0, 1):
        rows = in_epoch(packed, epoch)
        report = packed.report(epoch)
        assert (report.rows, report.places) == (len(rows), len(rows) * 1024)
        assert (report.examples, report.tokens) == (len(lengths), lengths.sum())
        assert report.waste == pytest.approx(1 - lengths.sum() / (len(rows) * 1024))
    assert packed.waste == packed.report(0).waste
    fewest = -(-lengths.sum() // 1024)
    blocks = -(-len(lengths) // block)
    assert fewest <= len(in_epoch(packed, 0)) <= fewest + 2 * blocks


# --- too long, or too little ---------------------------------------------------------------------


def test_an_example_too_long_is_refused_with_how_many_and_how_long() -> None:
    examples = examples_of([5, 30, 17, 16])
    for make in (PackedExamples, lambda *given: BucketedBatches(*given, batch_size=2)):
        with pytest.raises(RequestError, match="2 of 4 examples take more than 16 tokens, the longest 30"):
            make(examples, 16, 0, PAD)


def test_an_example_too_long_is_cut_at_its_end_when_asked_for() -> None:
    examples = examples_of([5, 30, 16])
    packed = PackedExamples(examples, 16, 0, PAD, "cut")
    report = packed.report()
    assert (report.cut, report.dropped, report.examples, report.tokens) == (1, 0, 3, 37)
    batch = whole_epoch(packed)
    row = next(i for i, members in enumerate(in_epoch(packed, 0)) if members == [1])
    inputs, targets = alone(examples[1])
    assert torch.equal(batch.tokens[row], inputs[0, :16])
    assert torch.equal(batch.targets[row], targets[0, :16])
    assert report.targets == batch.counted


def test_what_is_cut_down_to_its_prompt_is_told() -> None:
    prompt_first = Example(np.arange(40), np.arange(40) > 30)
    report = PackedExamples([prompt_first, *examples_of([5])], 16, 0, PAD, "cut").report()
    assert (report.cut, report.unlearned) == (1, 1)


def test_an_example_too_long_is_left_out_when_asked_for() -> None:
    packed = PackedExamples(examples_of([5, 30, 16, 17]), 16, 0, PAD, "drop")
    assert (packed.report().cut, packed.report().dropped, packed.report().examples) == (0, 2, 2)
    assert sorted(number for row in in_epoch(packed, 0) for number in row) == [0, 2]
    pairs = BucketedBatches(examples_of([5, 30, 16, 9]), 16, 0, PAD, batch_size=1, group=2, too_long="drop")
    assert in_epoch(pairs, 0) == [[2, 3]]  # the chosen does not come without the rejected
    assert (pairs.report().dropped, pairs.report().examples) == (2, 2)


def test_nothing_left_is_told() -> None:
    for examples in ([], examples_of([30, 40])):
        with pytest.raises(RequestError, match=f"none of {len(examples)} examples is left"):
            PackedExamples(examples, 16, 0, PAD, "drop")


@pytest.mark.parametrize(
    ("tokens", "learned", "match"),
    [
        ([1, 2, 3], [True, True, True], "first token cannot be learned"),
        ([1], [False], "two or more tokens"),
        ([1, 2, 3], [False, True], "as many flags"),
        ([1, 2, 3], [0, 1, 1], "booleans"),
    ],
)
def test_an_example_that_cannot_be_is_refused(tokens: list[int], learned: list[int], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Example(np.array(tokens), np.array(learned))


# --- batches of like length ----------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 20), min_size=2, max_size=80).filter(lambda some: len(some) % 2 == 0),
    st.sampled_from([{"batch_size": 1}, {"batch_size": 3}, {"token_budget": 40}, {"token_budget": 200}]),
    st.integers(1, 2),
    st.sampled_from([1, 4, 8]),
    st.integers(1, 6),
)
@settings(max_examples=80, deadline=None)
def test_every_example_is_in_one_batch_an_epoch(
    lengths: list[int], how: dict[str, Any], group: int, multiple: int, block: int
) -> None:
    examples = examples_of(lengths)
    batches = BucketedBatches(examples, 20, 1, PAD, group=group, multiple=multiple, block=block, **how)
    for epoch in (0, 1):
        found, places, sizes = [], 0, []
        for step in range(batches.first(epoch), batches.first(epoch + 1)):
            batch, members = batches[step], batches.rows(step).tolist()
            width = batch.tokens.shape[1]
            assert width == min(-(-max(lengths[m] for m in members) // multiple) * multiple, 20)
            if "token_budget" in how:
                assert batch.tokens.numel() <= how["token_budget"]
            for row, member in enumerate(members):
                (inputs,), (targets,) = alone(examples[member])
                empty = width - lengths[member]
                assert batch.tokens[row].tolist() == inputs.tolist() + [PAD] * empty
                assert batch.targets[row].tolist() == targets.tolist() + [IGNORE] * empty
            for place in range(0, len(members), group):  # those of a group are neighbours
                assert members[place] % group == 0
                assert members[place : place + group] == list(range(members[place], members[place] + group))
            found += members
            places += batch.tokens.numel()
            sizes.append(len(members) // group)
        assert sorted(found) == list(range(len(lengths)))
        assert batches.report(epoch).places == places
        assert batches.report(epoch).waste == pytest.approx(1 - sum(lengths) / places)
        if "batch_size" in how:
            whole, rest = divmod(len(lengths) // group, how["batch_size"])
            assert sorted(sizes, reverse=True) == [how["batch_size"]] * whole + ([rest] if rest else [])


def test_only_the_last_batch_of_an_epoch_is_short() -> None:
    batches = BucketedBatches(examples_of(chat_lengths(1003)), 1024, 1, PAD, batch_size=10, block=7)
    for epoch in (0, 1):
        sizes = sorted(len(rows) for rows in in_epoch(batches, epoch))
        assert sizes == [3] + [10] * 100


@pytest.mark.parametrize("group", [1, 2, 4])
def test_a_token_budget_is_kept_and_used(group: int) -> None:
    budget = 8192
    batches = BucketedBatches(examples_of(chat_lengths(2000)), 1024, 1, PAD, token_budget=budget, group=group)
    sizes = [batches[step].tokens.numel() for step in range(batches.first(1))]
    assert max(sizes) <= budget
    assert np.median(sizes) > 0.8 * budget


def test_padded_is_as_separate() -> None:
    examples = examples_of(np.random.default_rng(2).integers(1, 30, 24))
    batches = BucketedBatches(examples, 32, 5, PAD, batch_size=6, block=1)
    model = network()
    for step in range(batches.first(1)):
        batch = batches[step]
        assert batch.positions is batch.documents is None
        logits = logits_of(model, batch.tokens)
        for row, number in enumerate(batches.rows(step).tolist()):
            expected = logits_of(model, alone(examples[number])[0])[0]
            torch.testing.assert_close(logits[row, : len(expected)], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("how", [{"batch_size": 8}, {"token_budget": 8192}])
def test_like_lengths_come_together_and_leave_little_padding(how: dict[str, Any]) -> None:
    examples = examples_of(chat_lengths(4000))
    unsorted = BucketedBatches(examples, 1024, 0, PAD, block=1, **how)
    batches = BucketedBatches(examples, 1024, 0, PAD, **how)
    assert batches.waste < 0.1 < 0.3 < unsorted.waste


@pytest.mark.parametrize("how", [{"batch_size": 8}, {"token_budget": 8192}])
def test_batches_do_not_drift_from_short_to_long(how: dict[str, Any]) -> None:
    lengths = chat_lengths(8000)
    batches = BucketedBatches(examples_of(lengths), 1024, 0, PAD, **how)
    widths = np.array([lengths[rows].max() for rows in in_epoch(batches, 0)])
    assert abs(np.corrcoef(np.arange(len(widths)), widths)[0, 1]) < 0.15
    assert abs(np.corrcoef(widths[1:], widths[:-1])[0, 1]) < 0.2
    quarters = [part.mean() for part in np.array_split(widths, 4)]
    assert max(quarters) < 1.3 * min(quarters)


def test_companies_change_from_epoch_to_epoch_even_in_a_small_set() -> None:
    examples = examples_of(chat_lengths(400))
    batches = BucketedBatches(examples, 1024, 0, PAD, batch_size=8)
    first, second = ({frozenset(rows) for rows in in_epoch(batches, epoch)} for epoch in (0, 1))
    assert len(first & second) < len(first) / 4


def test_a_token_budget_below_the_longest_is_refused() -> None:
    with pytest.raises(RequestError, match="budget of 60 is less than the 64 of the longest"):
        BucketedBatches(examples_of([4, 30]), 64, 0, PAD, token_budget=60, group=2)


@pytest.mark.parametrize("how", [{}, {"batch_size": 2, "token_budget": 100}])
def test_a_batch_has_either_a_size_or_a_budget(how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a size or a token budget"):
        BucketedBatches(examples_of([4, 30]), 64, 0, PAD, **how)
