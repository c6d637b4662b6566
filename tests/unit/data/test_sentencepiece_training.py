import pytest

from seqkit.data.sentencepiece_training import train_sentencepiece
from seqkit.errors import UserError

spm = pytest.importorskip("sentencepiece")

SENTENCES = [f"in {year} there were {people} people" for year in (2017, 2018, 2019) for people in range(100, 160)]


def pieces(model):
    processor = spm.SentencePieceProcessor(model_file=str(model))
    return {processor.id_to_piece(index) for index in range(processor.get_piece_size())}


@pytest.mark.parametrize("split", [False, True])
def test_digits_are_pieces_of_their_own_when_asked(tmp_path, split):
    model = tmp_path / "spm.model"
    train_sentencepiece(iter(SENTENCES), model, vocab_size=50, model_type="bpe", split_digits=split)
    joined = {piece for piece in pieces(model) if sum(character.isdigit() for character in piece) > 1}
    assert bool(joined) is not split


def test_the_same_sentences_give_the_same_model(tmp_path):
    for name in ("a.model", "b.model"):
        train_sentencepiece(iter(SENTENCES), tmp_path / name, vocab_size=40, model_type="bpe", input_sentences=150)
    assert (tmp_path / "a.model").read_bytes() == (tmp_path / "b.model").read_bytes()


def test_too_many_pieces_are_one_error_and_no_file(tmp_path):
    with pytest.raises(UserError, match=r"cannot train a bpe model of 5000 pieces: .*5000"):
        train_sentencepiece(iter(SENTENCES), tmp_path / "spm.model", vocab_size=5000, model_type="bpe")
    assert list(tmp_path.iterdir()) == []
