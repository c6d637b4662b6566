"""Language models in the generator: texts are continued from a prefix, whatever makes the probabilities."""

from types import SimpleNamespace

import pytest
import torch

from seqkit.config.sections import GenerationConfig
from seqkit.data.prompt_dataset import PromptDataset
from seqkit.generation.build import build_generator
from seqkit.models.transformer_lm import TransformerLanguageModel, TransformerLMConfig
from tests.unit.generation.tiny import tiny_dictionary

DICTIONARY = tiny_dictionary(12)
EOS = DICTIONARY.eos()
KINDS = {
    "plain": {},
    "adaptive": {"adaptive_softmax_cutoff": "6,10"},
    "characters": {"character_embeddings": True, "character_filters": "[(1, 4), (2, 8)]"},
}


def language_model(seed=1, **options):
    torch.manual_seed(seed)
    sizes = dict.fromkeys(("decoder_embed_dim", "decoder_input_dim", "decoder_output_dim"), 8)
    config = TransformerLMConfig(
        **sizes, decoder_ffn_embed_dim=16, decoder_layers=2, decoder_attention_heads=2, tokens_per_sample=32, **options
    )
    model = TransformerLanguageModel.build(
        config, SimpleNamespace(source_dictionary=DICTIONARY, target_dictionary=DICTIONARY)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(2.0)
    return model.eval()


def continued(models, prompts, **options):
    rows = [torch.tensor([*prompt, EOS]) for prompt in prompts]
    data = PromptDataset(rows, torch.tensor([len(row) for row in rows]).numpy(), DICTIONARY, begin=EOS)
    sample = data.collater([data[index] for index in range(len(data))])
    generator = build_generator(models, DICTIONARY, GenerationConfig(**options))
    return generator.generate(sample, prefix_tokens=sample["net_input"]["src_tokens"][:, 1:], begin=EOS)


@torch.no_grad()
def greedy(model, prompt, length):
    """Token by token, each time from the whole text."""
    text = [EOS, *prompt]
    while len(text) <= length:
        log_probs = model.normalized_probs(model(torch.tensor([text])).logits, log_probs=True)[0, -1]
        log_probs[DICTIONARY.pad()] = -torch.inf
        text.append(int(log_probs.argmax()))
        if text[-1] == EOS:
            break
    return text[1:]


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_goes_on_as_it_would_token_by_token(kind):
    model = language_model(**KINDS[kind])
    prompts = [[5, 6, 7], [8], []]
    for prompt, hypotheses in zip(prompts, continued([model], prompts, beam=1, max_len_b=10, min_len=0), strict=True):
        tokens = hypotheses[0].tokens.tolist()
        assert tokens[: len(prompt)] == prompt
        expected = greedy(model, prompt, 10)
        assert tokens[: len(expected)] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_the_models_log_probabilities_prefix_included(kind):
    model = language_model(**KINDS[kind])
    for best in (hypotheses[0] for hypotheses in continued([model], [[5, 6], [9, 4, 8]], beam=3, max_len_b=9)):
        text = torch.tensor([[EOS, *best.tokens[:-1].tolist()]])
        with torch.no_grad():
            expected = model.target_log_probs(model(text).logits, best.tokens.unsqueeze(0))[0]
        torch.testing.assert_close(best.positional_scores, expected, atol=1e-5, rtol=1e-5)


def test_several_language_models_make_an_ensemble():
    one, two = language_model(1), language_model(2, adaptive_softmax_cutoff="6,10")
    best = continued([one, two], [[5, 6]], beam=2, max_len_b=8)[0][0]
    text = torch.tensor([[EOS, *best.tokens[:-1].tolist()]])
    with torch.no_grad():
        each = [model.target_log_probs(model(text).logits, best.tokens.unsqueeze(0))[0] for model in (one, two)]
    expected = torch.stack(each).logsumexp(0) - torch.tensor(2.0).log()
    torch.testing.assert_close(best.positional_scores, expected, atol=1e-5, rtol=1e-5)
