import numpy as np
import torch

from seqkit.data.dictionary import Dictionary
from seqkit.data.prompt_dataset import PromptDataset

PAD, EOS = 1, 2


def test_eos_gives_way_to_the_symbol_in_front():
    rows = [torch.tensor([5, 6, 7, EOS]), torch.tensor([8, EOS]), torch.tensor([EOS])]
    data = PromptDataset(rows, np.array([4, 2, 1]), Dictionary(), begin=0)
    assert len(data) == 3
    assert data.ordered_indices().tolist() == [2, 1, 0]
    batch = data.collater([data[index] for index in (2, 1, 0)])
    assert batch["id"].tolist() == [2, 1, 0]
    assert batch["net_input"]["src_tokens"].tolist() == [[0, PAD, PAD, PAD], [0, 8, PAD, PAD], [0, 5, 6, 7]]
    assert batch["net_input"]["src_lengths"].tolist() == [1, 2, 4]
    assert batch["target"].tolist() == [[PAD] * 4, [8, PAD, PAD, PAD], [5, 6, 7, PAD]]
    assert (batch["nsentences"], batch["ntokens"]) == (3, 7)
    assert data.collater([]) == {}
