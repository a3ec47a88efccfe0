from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from linnet.config import RequestError, RunError
from linnet.data.batches import IGNORE, Batch, Windows, document_layout, spread
from linnet.data.peek import describe
from linnet.data.shards.store import Shard, Span, Split
from linnet.data.training import TrainBatches

EOS = 0
LENGTH = 16


def split_of(folder: Path, tokens: np.ndarray, shards: int = 4) -> Split:
    parts = []
    for index, part in enumerate(np.array_split(tokens.astype("<u2"), shards)):
        path = folder / f"part-{index}.bin"
        path.write_bytes(part.tobytes())
        parts.append(Shard(path, len(part), ""))
    return Split(tuple(parts), np.dtype("<u2"), (Span("test", len(tokens), int((tokens == EOS).sum())),))


@pytest.fixture
def corpus() -> np.ndarray:
    """Documents of 1 to 40 tokens, each ended by EOS; no token but EOS appears twice, so places can be told."""
    lengths = np.random.default_rng(1).integers(1, 40, size=60)
    tokens = np.arange(1, lengths.sum() + len(lengths) + 1)
    tokens[np.cumsum(lengths + 1) - 1] = EOS
    return tokens


def windows_of(folder: Path, tokens: np.ndarray, mask: bool = True) -> Windows:
    return Windows(split_of(folder, tokens), LENGTH, EOS, mask)


def all_batches(batches: TrainBatches, steps: range, **how: int) -> list[Batch]:
    return list(batches.stream(steps.start, steps.stop, **how))


def same(first: Batch, second: Batch) -> bool:
    names = ("tokens", "targets", "positions", "documents")
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


def test_every_token_is_a_target_exactly_once_an_epoch(tmp_path: Path, corpus: np.ndarray) -> None:
    windows = windows_of(tmp_path, corpus)
    batches = TrainBatches.over(windows, 1, seed=5)
    for epoch in (0, 1):
        steps = range(epoch * windows.count, (epoch + 1) * windows.count)
        targets = torch.cat([batches[step].targets.flatten() for step in steps])
        counted = np.sort(targets[targets != IGNORE].numpy())
        assert np.array_equal(counted, np.sort(corpus))


def test_a_target_is_the_next_token_also_across_windows_and_shards(
    tmp_path: Path, corpus: np.ndarray
) -> None:
    windows = windows_of(tmp_path, corpus)
    line = np.concatenate(([EOS], corpus))
    batch = windows.batch(np.arange(windows.count))
    inputs, targets = batch.tokens.numpy(), batch.targets.numpy()
    assert windows.split.shards[0].tokens % LENGTH  # a window does straddle two shards
    for window in range(windows.count):
        here = slice(window * LENGTH, min((window + 1) * LENGTH, len(corpus)))
        count = here.stop - here.start
        assert np.array_equal(inputs[window, :count], line[here])
        assert np.array_equal(targets[window, :count], corpus[here])
        assert (targets[window, count:] == IGNORE).all()
    assert torch.equal(batch.tokens[:-1, 1:], batch.targets[:-1, :-1])


def test_a_sample_is_the_same_for_any_batch_size_and_start(tmp_path: Path, corpus: np.ndarray) -> None:
    windows = windows_of(tmp_path, corpus)
    alone = [TrainBatches.over(windows, 1, seed=9)[i] for i in range(96)]
    hashes = [describe(TrainBatches.over(windows, 1, seed=9), i)["sha256"] for i in range(96)]
    for size in (2, 8, 24):
        batches = TrainBatches.over(windows, size, seed=9)
        for start in (0, 1, 3):
            for step, batch in zip(range(start, 96 // size), batches.stream(start, 96 // size), strict=True):
                for row in range(size):
                    assert same(batch.rows(row, row + 1), alone[step * size + row])
        assert [describe(batches, i)["sha256"] for i in range(96)] == hashes


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_change_nothing(tmp_path: Path, corpus: np.ndarray, workers: int) -> None:
    batches = TrainBatches.over(windows_of(tmp_path, corpus), 8, seed=2)
    steps = range(3, 60)  # over several ends of an epoch, which threads reach out of order
    expected = all_batches(batches, steps)
    found = all_batches(batches, steps, workers=workers)
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("micro", [1, 2, 8])
def test_micro_batches_are_slices_of_the_batch(tmp_path: Path, corpus: np.ndarray, micro: int) -> None:
    batch = TrainBatches.over(windows_of(tmp_path, corpus), 8, seed=2)[3]
    parts = [batch.rows(begin, begin + micro) for begin in range(0, 8, micro)]
    assert all(len(part) == micro for part in parts)
    assert torch.equal(torch.cat([part.tokens for part in parts]), batch.tokens)
    assert torch.equal(torch.cat([part.documents for part in parts]), batch.documents)
    assert sum(part.counted for part in parts) == batch.counted


def test_eos_opens_the_next_document_and_positions_start_anew(tmp_path: Path) -> None:
    documents, positions = document_layout(
        np.array([[5, 6, EOS, 7, EOS, EOS, 8, 9], [EOS, 1, 2, 3, 4, 5, 6, 7]]), EOS
    )
    assert documents.tolist() == [[0, 0, 1, 1, 2, 3, 3, 3], [1] * 8]
    assert positions.tolist() == [[0, 1, 0, 1, 0, 0, 1, 2], list(range(8))]


def test_layout_agrees_with_walking_along_the_row(tmp_path: Path, corpus: np.ndarray) -> None:
    windows = windows_of(tmp_path, corpus)
    batch = windows.batch(np.arange(windows.count))
    for tokens, positions, documents in zip(batch.tokens, batch.positions, batch.documents, strict=True):
        place = -1
        for t in range(LENGTH):
            place = 0 if tokens[t] == EOS else place + 1
            assert positions[t] == place
            assert bool(t and documents[t] != documents[t - 1]) == bool(t and tokens[t] == EOS)


def test_eos_and_a_document_s_first_token_are_counted_targets(tmp_path: Path, corpus: np.ndarray) -> None:
    windows = windows_of(tmp_path, corpus)
    targets = windows.batch(np.arange(windows.count)).targets
    assert int((targets == EOS).sum()) == int((corpus == EOS).sum())
    firsts = np.concatenate(([corpus[0]], corpus[np.flatnonzero(corpus[:-1] == EOS) + 1]))
    assert np.isin(firsts, targets.numpy()).all()


def test_without_document_masks_there_is_no_layout(tmp_path: Path, corpus: np.ndarray) -> None:
    batch = windows_of(tmp_path, corpus, mask=False).batch(np.array([0, 1]))
    assert batch.positions is None
    assert batch.documents is None
    assert batch.rows(0, 1).positions is None


def test_validation_covers_every_token_once(tmp_path: Path, corpus: np.ndarray) -> None:
    windows = windows_of(tmp_path, corpus)
    parts = spread(windows.count, 7)
    assert np.array_equal(np.concatenate(parts), np.arange(windows.count))
    assert sum(windows.batch(part).counted for part in parts) == len(corpus)


def test_limited_validation_is_spread_evenly_and_never_twice(tmp_path: Path) -> None:
    windows = windows_of(tmp_path, np.arange(1, 100 * LENGTH + 1))
    for limit in (1, 2, 7, 50, 99, 100, 1000):
        chosen = np.concatenate(spread(windows.count, 8, limit))
        assert len(set(chosen.tolist())) == len(chosen) == min(limit, 100)
        assert limit < 2 or (chosen[0], chosen[-1]) == (0, 99)
        assert np.ptp(np.diff(chosen)) <= 1 if limit > 2 else True


def test_too_little_text_for_one_sequence_is_told(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="15 tokens, fewer than one sequence of 16"):
        TrainBatches.over(windows_of(tmp_path, np.arange(1, 16)), 1, seed=0)
    assert len(TrainBatches.over(windows_of(tmp_path, np.arange(1, 17)), 1, seed=0)[0]) == 1


def test_the_fingerprint_follows_what_decides_a_sample(tmp_path: Path, corpus: np.ndarray) -> None:
    windows = windows_of(tmp_path, corpus)
    first = TrainBatches.over(windows, 4, seed=1).fingerprint(0)
    assert TrainBatches.over(windows, 8, seed=1).fingerprint(0) == first  # not the batch size
    assert TrainBatches.over(windows, 4, seed=2).fingerprint(0) != first
    assert TrainBatches.over(windows_of(tmp_path, corpus, mask=False), 4, seed=1).fingerprint(0) != first


def batch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_no_worker_is_left_after_a_stop(tmp_path: Path, corpus: np.ndarray) -> None:
    stream = TrainBatches.over(windows_of(tmp_path, corpus), 4, seed=0).stream(0, 10_000_000, workers=3)
    next(stream)
    assert batch_threads()
    stream.close()
    assert not batch_threads()


def test_a_stream_left_open_ends_with_the_program(tmp_path: Path, corpus: np.ndarray) -> None:
    corpus.astype("<u2").tofile(tmp_path / "all.bin")
    program = f"""
import numpy as np
from pathlib import Path
from linnet.data.batches import Windows
from linnet.data.training import TrainBatches
from linnet.data.shards.store import Shard, Span, Split
shard = Shard(Path({str(tmp_path / "all.bin")!r}), {len(corpus)}, "")
split = Split((shard,), np.dtype("<u2"), (Span("test", {len(corpus)}, 1),))
stream = TrainBatches.over(Windows(split, 16, 0, True), 4, seed=0).stream(0, 1000, workers=2)
next(stream)
raise SystemExit(3)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (3, "")


def test_a_worker_s_error_reaches_the_trainer_and_ends_all(tmp_path: Path, corpus: np.ndarray) -> None:
    windows = windows_of(tmp_path, corpus)
    windows.split.shards[2].path.unlink()
    with pytest.raises(RunError, match="cannot be read"):
        all_batches(TrainBatches.over(windows, 8, seed=0), range(50), workers=2)
    assert not batch_threads()


def test_pinning_is_asked_of_torch_only_when_wanted(
    tmp_path: Path, corpus: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[int] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self.ndim) or self.clone())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    devices: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    batches = TrainBatches.over(windows_of(tmp_path, corpus), 4, seed=0)
    plain = all_batches(batches, range(5), workers=2)
    assert not pinned
    for workers in (0, 2):
        found = list(batches.stream(0, 5, workers, pin=True))
        assert all(same(a, b) for a, b in zip(found, plain, strict=True))
    assert len(pinned) == 2 * 5 * 4  # tokens, targets, positions, documents
    assert set(devices) == {1}  # a thread begins on device 0, whatever this process uses


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pinned_batches_arrive_whole_on_the_device(tmp_path: Path, corpus: np.ndarray) -> None:
    batches = TrainBatches.over(windows_of(tmp_path, corpus), 8, seed=0)
    for step, batch in enumerate(batches.stream(0, 200, workers=2, pin=True)):
        assert batch.tokens.is_pinned()
        there = batch.to(torch.device("cuda"))
        assert torch.equal(there.tokens.cpu(), batches[step].tokens)
        assert torch.equal(there.targets.cpu(), batches[step].targets)
