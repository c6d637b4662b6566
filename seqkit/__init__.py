"""seqkit: train and use sequence models. The faithful successor of fairseq for today's PyTorch."""

__version__ = "0.1.0"
