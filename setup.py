"""Packaging of seqkit. Versions here are ranges; the tested ones are pinned in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (ROOT / "seqkit" / "__init__.py").read_text(encoding="utf-8"))[1]
COMMANDS = (
    "preprocess",
    "train",
    "generate",
    "interactive",
    "score",
    "validate",
    "average",
    "convert",
    "export",
    "plot",
    "eval-lm",
)

setup(
    name="seqkit",
    version=VERSION,
    description="Train and use sequence models: the faithful successor of fairseq for today's PyTorch",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=[*find_packages(include=["seqkit", "seqkit.*", "seqkit_cli", "seqkit_cli.*"]), "seqkit.configs"],
    # The YAML files stay at the top of the repository and ship inside the package.
    package_dir={"seqkit.configs": "configs"},
    package_data={
        "seqkit": ["py.typed"],
        "seqkit_cli": ["py.typed"],
        "seqkit.configs": ["*.yaml", "*/*.yaml", "*/*/*.yaml"],
    },
    install_requires=[
        "hydra-core>=1.3,<1.4",
        "numpy>=1.26",
        "omegaconf>=2.3,<2.4",
        "regex>=2023.8",
        "sacrebleu>=2.4",
        "sentencepiece>=0.2",
        "tensorboardX>=2.6",
        "torch>=2.6",
        "tqdm>=4.66",
        "typing-extensions>=4.10",
    ],
    extras_require={
        "plot": ["matplotlib>=3.8"],
        "moses": ["sacremoses>=0.1.1"],
        "nltk": ["nltk>=3.9"],
        "metrics": ["bert-score>=0.3.13", "nltk>=3.9"],
        "hf": ["tokenizers>=0.20"],
        "slurm": ["hydra-submitit-launcher>=1.2"],
        "wandb": ["wandb>=0.17"],
        "export": ["ctranslate2>=4.5", "safetensors>=0.4"],
        "dev": [
            "ctranslate2>=4.5",
            "matplotlib>=3.8",
            "mypy>=1.15",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.9",
            "safetensors>=0.4",
            "sacremoses>=0.1.1",
            "types-tqdm",
        ],
    },
    entry_points={
        "console_scripts": [f"seqkit-{command} = seqkit_cli.{command.replace('-', '_')}:main" for command in COMMANDS],
    },
    zip_safe=False,
)
