import logging

import torch
import torch.nn.functional as F

from seqkit.modules.character_token_embedder import CharacterTokenEmbedder

SYMBOLS = ["<s>", "<pad>", "</s>", "<unk>", "a", "cat", "é", "x" * 60]
PAD, EOS, UNK = 1, 2, 3


def embedder(highway_layers=1):
    torch.manual_seed(1)
    return CharacterTokenEmbedder(
        SYMBOLS,
        special=4,
        pad=PAD,
        eos=EOS,
        unk=UNK,
        filters=[(1, 4), (3, 6)],
        char_embed_dim=5,
        word_embed_dim=7,
        highway_layers=highway_layers,
    )


def by_hand(model, word):
    """One word, padded to the full number of bytes."""
    row = torch.zeros(1, model.MAX_CHAR_LEN, dtype=torch.int64)
    for place, byte in enumerate(word.encode()[: model.MAX_CHAR_LEN]):
        row[0, place] = byte + 1
    x = model.char_embeddings(row).transpose(1, 2)
    x = torch.cat([F.relu(convolution(x)).amax(-1) for convolution in model.convolutions], dim=-1)
    return model.projection(model.highway(x))[0]


def test_words_are_made_of_their_bytes():
    model = embedder()
    tokens = torch.tensor([[4, 5, 6], [5, 7, 5]])
    vectors = model(tokens)
    assert vectors.shape == (2, 3, 7)
    for place in [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2)]:
        torch.testing.assert_close(vectors[place], by_hand(model, SYMBOLS[tokens[place]]))


def test_special_symbols_have_vectors_of_their_own():
    model = embedder(highway_layers=0)
    vectors = model(torch.tensor([PAD, EOS, UNK, 4]))
    assert not vectors[0].any()
    assert torch.equal(vectors[1], model.symbol_embeddings[0])
    assert torch.equal(vectors[2], model.symbol_embeddings[1])
    vectors.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_table_of_bytes_is_no_part_of_a_checkpoint():
    assert "word_to_char" not in embedder().state_dict()


def test_words_that_are_cut_are_counted(caplog):
    with caplog.at_level(logging.INFO):
        embedder()
    assert "1 words are longer than 50 bytes" in caplog.text
