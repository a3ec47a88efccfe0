"""Batches, endings, limits and streams; and that generating leaves no trace."""

from __future__ import annotations

import pytest
import torch
from talkers import CONTEXT, EOS, FAMILIES, ByteTokenizer, Script, greedy, network, says

from linnet.config import RequestError, RunError
from linnet.infer import Generator, SamplingSettings
from linnet.model.dropout import row_keys, seed_rows

PROMPTS = ["Once", "", "The little bird that lived by the sea", "A", "Two birds"]
SETTINGS = {
    "greedy": greedy(max_new_tokens=20),
    "sampled": SamplingSettings(max_new_tokens=20, seed=5, temperature=0.9, top_k=40),
    "everything": SamplingSettings(
        max_new_tokens=20, seed=6, top_p=0.9, min_p=0.01, repetition_penalty=1.2, stop=["e", "zz"]
    ),
}


def generator(family: str = "llama") -> Generator:
    return Generator(network(family, **FAMILIES[family]), ByteTokenizer())


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_uneven_prompts_in_one_batch_say_what_each_says_alone(family: str, settings: str) -> None:
    talker = generator(family)
    together = talker.generate(PROMPTS, SETTINGS[settings], logprobs=True)
    assert len({completion.text for completion in together}) == len(PROMPTS)
    for number, (prompt, completion) in enumerate(zip(PROMPTS, together, strict=True)):
        (alone,) = talker.generate([prompt], SETTINGS[settings], samples=[number], logprobs=True)
        assert alone.logprobs == pytest.approx(completion.logprobs, abs=1e-4)
        assert (alone.ids, alone.text, alone.finish_reason) == (
            completion.ids,
            completion.text,
            completion.finish_reason,
        )


def test_a_seed_gives_its_text_again_and_another_seed_another() -> None:
    talker = generator()
    first, again, other = (
        [c.text for c in talker.generate(PROMPTS, SamplingSettings(max_new_tokens=20, seed=seed))]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_the_same_prompt_twice_is_two_samples() -> None:
    one, two = generator().generate(["Once", "Once"], SamplingSettings(max_new_tokens=20))
    assert one.text != two.text


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_stream_joins_to_the_generated_text(settings: str) -> None:
    talker = generator()
    pieces = list(talker.stream("Once", SETTINGS[settings]))
    assert all(pieces)
    assert "".join(pieces) == talker.generate(["Once"], SETTINGS[settings])[0].text


def test_a_text_is_read_after_an_eos_unless_it_is_no_beginning() -> None:
    talker = generator()
    one = talker.generate(["ab"], greedy(max_new_tokens=1))[0]
    assert one.prompt_ids == [EOS, 97, 98]
    assert talker.generate([""], greedy(max_new_tokens=1))[0].prompt_ids == [EOS]
    inside = talker.generate(["ab"], greedy(max_new_tokens=1), start_document=False)[0]
    assert inside.prompt_ids == [97, 98]
    assert talker.generate([[97, 98], []], greedy(max_new_tokens=1))[1].prompt_ids == [EOS]
    assert talker.generate([[97, 98]], greedy(max_new_tokens=1))[0].prompt_ids == [97, 98]


def test_no_prompts_give_no_completions() -> None:
    assert generator().generate([], greedy()) == []


def test_eos_ends_the_text_and_is_among_the_ids() -> None:
    (said,) = says("a tale").generate([""], greedy(), logprobs=True)
    assert (said.text, said.finish_reason) == ("a tale", "eos")
    assert said.ids == [*b"a tale", EOS]
    assert said.logprobs is not None
    assert len(said.logprobs) == 7


def test_every_stop_id_of_a_tokenizer_ends_the_text() -> None:
    """A chat model ends its turn with another token than a document's EOS."""
    generator = says("a tale|never said")
    generator.tokenizer.stop_ids = (EOS, ord("|"))
    (said,) = generator.generate(["x"], greedy(max_new_tokens=20), start_document=False)
    assert (said.text, said.finish_reason) == ("a tale", "eos")
    assert said.ids[-1] == ord("|")


def test_the_longest_allowed_ends_the_text() -> None:
    (said,) = says("a tale").generate([""], greedy(max_new_tokens=3))
    assert (said.text, said.finish_reason) == ("a t", "length")


def test_a_stop_string_across_tokens_ends_the_text_and_is_cut_off() -> None:
    talker = says("Ann: hi\nBob: hello")
    (said,) = talker.generate([""], greedy(stop=["\nBob:", "Zoe"]))
    assert (said.text, said.finish_reason) == ("Ann: hi", "stop")
    assert said.ids == list(b"Ann: hi\nBob:")
    pieces = list(talker.stream("", greedy(stop=["\nBob:"])))
    assert "".join(pieces) == "Ann: hi"


def test_a_stop_string_that_never_ends_is_text() -> None:
    (said,) = says("one END").generate([""], greedy(stop=["ENDED"]))
    assert (said.text, said.finish_reason) == ("one END", "eos")


def test_a_stop_string_at_the_last_allowed_token_is_a_stop() -> None:
    (said,) = says("abEND").generate([""], greedy(stop=["END"], max_new_tokens=5))
    assert (said.text, said.finish_reason) == ("ab", "stop")


def test_a_stream_gives_whole_characters() -> None:
    text = "né 中 🐦!"
    assert list(says(text).stream("", greedy())) == list(text)
    cut = "🐦".encode()[:3]
    assert list(says(b"a" + cut, end=False).stream("", greedy(max_new_tokens=4))) == ["a", "�"]


def test_a_character_begun_in_the_prompt_is_finished_in_the_text() -> None:
    first, rest = "é".encode()
    (said,) = says(bytes([rest]), prompt_length=1).generate([[first]], greedy(), start_document=False)
    assert said.text == "é"


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_generation_ends_at_the_context(family: str) -> None:
    talker = generator(family)
    prompts = [[65] * (CONTEXT - 1), [66] * (CONTEXT - 5), [67] * 4]
    settings = greedy(max_new_tokens=12)
    said = talker.generate(prompts, settings)
    assert [len(completion.ids) for completion in said] == [1, 5, 12]
    assert {completion.finish_reason for completion in said} == {"length"}
    assert talker.generate(prompts[1:2], settings)[0].ids == said[1].ids


def test_a_prompt_that_fills_the_context_is_refused() -> None:
    talker = generator("gpt2")
    with pytest.raises(RequestError, match="prompt 2: 64 tokens leave no room in the model's context of 64"):
        talker.generate(["short", "a" * (CONTEXT - 1)], greedy())
    with pytest.raises(RequestError, match="no room"):
        talker.stream("a" * 100, greedy())  # at once, before the first piece is asked for


@pytest.mark.parametrize("ids", [[3, 257], [-1]])
def test_ids_that_the_model_has_not_are_refused(ids: list[int]) -> None:
    with pytest.raises(RequestError, match=r"outside the model's 0\.\.256"):
        generator().generate([ids], greedy())


def test_a_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(RequestError, match="the tokenizer that the model was trained with"):
        Generator(network(vocab_size=200), ByteTokenizer())


def test_padding_rows_of_the_vocabulary_are_never_drawn() -> None:
    model = network(vocab_size=300, tie_word_embeddings=False)
    with torch.no_grad():
        model.head_weight[257:] *= 50  # so loud that they would win
    settings = SamplingSettings(max_new_tokens=30, repetition_penalty=1.1)
    for said in Generator(model, ByteTokenizer()).generate(PROMPTS, settings):
        assert max(said.ids) <= EOS


def test_output_that_is_not_finite_is_told() -> None:
    model = network()
    with torch.no_grad():
        model.embed_tokens.weight[:, 0] = torch.nan
    with pytest.raises(RunError, match="not finite"):
        Generator(model, ByteTokenizer()).generate(["a"], SamplingSettings())


def test_log_probabilities_are_those_of_a_training_pass() -> None:
    talker = generator()
    settings = SamplingSettings(max_new_tokens=15, temperature=0.8, top_p=0.7, repetition_penalty=1.3)
    for said in talker.generate(PROMPTS, settings, logprobs=True):
        ids = torch.tensor([said.prompt_ids + said.ids])
        logits = talker.model.logits(talker.model(ids))[0] / 0.8
        expected = logits.log_softmax(-1)[range(len(said.prompt_ids) - 1, ids.shape[1] - 1), said.ids]
        assert said.logprobs == pytest.approx(expected.tolist(), abs=1e-4)
    assert talker.generate(["a"], settings)[0].logprobs is None


def test_generating_leaves_no_trace_in_a_training_loop() -> None:
    model = network(dropout=0.2, attention_dropout=0.2).train()
    model.layers[0].eval()  # a part that someone froze
    model.use_precision(torch.bfloat16, residual=torch.float32)
    modes = [module.training for module in model.modules()]
    talker = Generator(model, ByteTokenizer(), dtype=torch.float32)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    talker.generate(PROMPTS, SamplingSettings(max_new_tokens=5))
    stream = talker.stream("a", SamplingSettings(max_new_tokens=5))
    next(stream)
    assert not torch.is_inference_mode_enabled()
    assert [module.training for module in model.modules()] == modes
    list(stream)
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in model.modules()] == modes
    assert (model.compute_dtype, model.residual_dtype) == (torch.bfloat16, torch.float32)
    seed_rows(model, row_keys(model, 0, 1))
    loss = model.logits(model(torch.ones(1, 4, dtype=torch.long))).float().logsumexp(-1).sum()
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_dropout_is_off_while_generating() -> None:
    model = network(dropout=0.5).train()
    talker = Generator(model, ByteTokenizer())
    first = talker.generate(["Once"], greedy(max_new_tokens=15))
    assert first == talker.generate(["Once"], greedy(max_new_tokens=15))


def test_a_failure_restores_the_model_too() -> None:
    model = network().train()
    with torch.no_grad():
        model.embed_tokens.weight[:, 0] = torch.nan
    with pytest.raises(RunError):
        Generator(model, ByteTokenizer()).generate(["a"], greedy())
    assert model.training
    assert not torch.is_inference_mode_enabled()


def test_half_precision_computes_in_half_precision() -> None:
    talker = Generator(network(), ByteTokenizer(), dtype=torch.bfloat16)
    said = talker.generate(PROMPTS, greedy(max_new_tokens=5), logprobs=True)
    exact = generator_of(talker.model).generate(PROMPTS, greedy(max_new_tokens=5), logprobs=True)
    assert said[0].logprobs != exact[0].logprobs
    assert said[0].logprobs is not None
    assert exact[0].logprobs is not None
    assert said[0].logprobs[0] == pytest.approx(exact[0].logprobs[0], abs=0.2)


def generator_of(model: torch.nn.Module) -> Generator:
    assert not isinstance(model, Script)
    return Generator(model, ByteTokenizer())  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_model_compiled_for_training_generates_and_trains_on() -> None:
    plain, compiled = network("gpt2"), network("gpt2")
    for block in compiled.layers:
        block.compile(fullgraph=True)
    ids = torch.arange(20).unsqueeze(0)
    compiled.train()(ids).sum().backward()
    assert [c.ids for c in generator_of(compiled).generate(PROMPTS, SETTINGS["greedy"])] == [
        c.ids for c in generator_of(plain).generate(PROMPTS, SETTINGS["greedy"])
    ]
    torch.testing.assert_close(compiled.train()(ids), plain.train()(ids), atol=1e-4, rtol=0)
