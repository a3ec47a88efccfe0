"""Rows that come and go: what a row says is its own, and no pass reads what another one has read."""

from __future__ import annotations

import random

import pytest
import torch
from talkers import EOS, FAMILIES, ByteTokenizer, Script, greedy, network

from linnet.config import RequestError
from linnet.infer import Generator, SamplingSettings, rows
from linnet.model import KVCache

DRAW = random.Random(3)
SYSTEM = [DRAW.randrange(256) for _ in range(70)]
LENGTHS = [3, 150, 40, 1, 66, 12, 9, 130, 30, 5]
PROMPTS = [[DRAW.randrange(256) for _ in range(length)] for length in LENGTHS]
PROMPTS += [PROMPTS[2]] * 3 + [PROMPTS[4]] * 2  # samples of one prompt
PROMPTS += [[*SYSTEM, *prompt] for prompt in PROMPTS[5:8]]  # one beginning, several ends
PROMPTS += [PROMPTS[5], SYSTEM]
SETTINGS = {
    "greedy": greedy(max_new_tokens=24),
    "sampled": SamplingSettings(max_new_tokens=24, seed=5, temperature=0.9),
    "everything": SamplingSettings(
        max_new_tokens=24, seed=6, top_p=0.9, min_p=0.01, repetition_penalty=1.2, stop=["e", "zz"]
    ),
}


def generator(family: str = "llama") -> Generator:
    model = network(family, max_position_embeddings=300, **FAMILIES[family])
    talker = Generator(model, ByteTokenizer())
    talker.tokenizer.stop_ids = (EOS, *range(0, 256, 20))  # so that rows end at different times
    return talker


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_says_the_same_in_any_company(family: str, settings: str) -> None:
    talker = generator(family)
    alone = [
        talker.generate([prompt], SETTINGS[settings], samples=[number], logprobs=True)[0]
        for number, prompt in enumerate(PROMPTS)
    ]
    assert len({tuple(said.ids) for said in alone}) > 5
    order = random.Random(1).sample(range(len(PROMPTS)), len(PROMPTS))
    for numbers, slots in ((range(len(PROMPTS)), None), (range(len(PROMPTS)), 5), (order, 3), (order, 1)):
        together = talker.generate(
            [PROMPTS[i] for i in numbers], SETTINGS[settings], samples=numbers, logprobs=True, slots=slots
        )
        for number, said in zip(numbers, together, strict=True):
            own = alone[number]
            assert said.logprobs == pytest.approx(own.logprobs, abs=1e-3)
            assert (said.prompt_ids, said.ids, said.text, said.finish_reason) == (
                own.prompt_ids,
                own.ids,
                own.text,
                own.finish_reason,
            )


@pytest.mark.parametrize("slots", [None, 4])
def test_the_same_call_gives_the_same_bits(slots: int | None) -> None:
    settings = SETTINGS["sampled"]
    first, again = (generator().generate(PROMPTS, settings, logprobs=True, slots=slots) for _ in range(2))
    assert first == again  # log-probabilities too, exactly


def test_finished_rows_cost_nothing() -> None:
    """Position decides what the script says, so longer prompts come to EOS sooner."""
    model = Script([*b"abcdefgh", EOS])
    said = Generator(model, ByteTokenizer()).generate([[1], [1] * 3, [1] * 6], greedy())
    assert [len(completion.ids) for completion in said] == [9, 7, 4]
    assert [completion.finish_reason for completion in said] == ["eos"] * 3
    assert model.reads == [[1, 3, 6], *[[1] * 3] * 3, *[[1] * 2] * 3, *[[1]] * 2]


def test_a_prompt_that_waits_takes_the_place_of_a_finished_row_in_the_same_pass() -> None:
    model = Script([*b"abcdefgh", EOS])
    prompts = [[1] * length for length in (6, 3, 7, 2, 5)]
    said = Generator(model, ByteTokenizer()).generate(prompts, greedy(), slots=2)
    assert [len(completion.ids) for completion in said] == [4, 7, 3, 8, 5]
    # 6 and 3 begin; 7 comes for the first, 2 and 5 for the two that end together.
    assert model.reads[:8] == [[6, 3], [1, 1], [1, 1], [1, 1], [1, 7], [1, 1], [1, 1], [2, 5]]
    assert sum(map(len, model.reads)) == 4 + 7 + 3 + 8 + 5  # no row is in a pass that it does not need


def test_samples_of_one_prompt_read_it_once() -> None:
    model = Script([*b"abcdefghijklmnopqrstuvwxyz", EOS])
    prompts = [[1] * 20] * 4 + [[2] * 15] * 2
    said = Generator(model, ByteTokenizer()).generate(prompts, greedy())
    assert [len(completion.ids) for completion in said] == [8] * 4 + [13] * 2
    assert model.reads[:2] == [[20, 15], [1] * 6]


def test_what_prompts_begin_with_is_read_once_while_it_is_in_flight() -> None:
    talker = generator()
    passes: list[list[int]] = []
    decode = talker.model.decode

    def watched(tokens: torch.Tensor, cache: KVCache, counts: list[int]) -> torch.Tensor:
        passes.append(list(counts))
        return decode(tokens, cache, counts)

    talker.model.decode = watched  # type: ignore[method-assign]
    prompts = [[*SYSTEM, 1, 2, 3], [*SYSTEM, 4], [*SYSTEM[:50], 5, 6], [7] * 3, [7] * 3]
    talker.generate(prompts, greedy(max_new_tokens=3))
    assert passes[:2] == [[73, 3, 3], [1, 1, 1, 1, 2]]  # too short a beginning is not worth a copy


def test_long_prompts_join_over_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    talker, settings = generator(), SETTINGS["greedy"]
    expected = talker.generate(PROMPTS[:10], settings)
    monkeypatch.setattr(rows, "PREFILL_TOKENS", 100)
    passes: list[int] = []
    positions = KVCache.positions

    def watched(self: KVCache, counts: list[int]) -> torch.Tensor:
        passes.append(sum(counts))
        return positions(self, counts)

    monkeypatch.setattr(KVCache, "positions", watched)
    assert talker.generate(PROMPTS[:10], settings) == expected
    assert max(passes) <= 150 + 10  # one prompt alone may be longer
    assert passes[0] == 3


def test_sample_numbers_may_be_as_large_as_a_seed() -> None:
    talker, settings = generator(), SamplingSettings(max_new_tokens=20)
    large = 2**63 - 1
    one, other = talker.generate(["Once"] * 2, settings, samples=[large, large - 1])
    assert one.ids != other.ids
    assert talker.generate(["Once"], settings, samples=[large])[0].ids == one.ids
    for wrong in (2**63, -1):
        with pytest.raises(RequestError, match="from 0 to 2"):
            talker.generate(["Once"], settings, samples=[wrong])


def test_no_slots_are_refused() -> None:
    with pytest.raises(RequestError, match="give 1 or more"):
        generator().generate(["Once"], greedy(), slots=0)


def test_rows_of_one_size_stand_together_and_few_move() -> None:
    cache = KVCache(network().spec, 40, 600, "cpu", torch.float32)
    draw = random.Random(1)
    lengths = [draw.randrange(600) for _ in range(40)]
    cache.advance(lengths)
    cache.keep(cache.order(list(range(40))))
    assert cache.order(list(range(40))) == list(range(40))  # nothing to move where all is in order
    sizes = [(length // 64).bit_length() for length in cache.lengths.tolist()]
    assert sizes == sorted(sizes, reverse=True)
    staying = [row for row in range(40) if row != 7]
    order = cache.order(staying)
    assert sorted(order) == staying
    assert sum(place != row for place, row in enumerate(order)) <= len(set(sizes))
