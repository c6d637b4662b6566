"""Token rows for tests."""

import numpy as np
import torch


class Rows:
    """Rows with lengths, as an indexed dataset has them."""

    def __init__(self, *rows):
        self.rows = [torch.tensor(row, dtype=torch.int64) for row in rows]
        self.sizes = np.array([len(row) for row in rows], dtype=np.int32)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def contents(rows):
    return [rows[index].tolist() for index in range(len(rows))]
