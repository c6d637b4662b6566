"""Where the shipped YAML files are, and which there are. Reads folder names only; imports neither Hydra nor YAML."""

from __future__ import annotations

from pathlib import Path

from seqkit.config.root import COMPONENTS
from seqkit.errors import SeqkitError

_PACKAGE = Path(__file__).resolve().parent.parent


def configs_dir() -> Path:
    """The folder of shipped configs: `seqkit/configs` when installed, `configs` at the top of a source checkout.

    Raises:
        SeqkitError: neither is there; the installation is broken.
    """
    for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs"):
        if folder.is_dir():
            return folder
    raise SeqkitError(f"the shipped configs are in neither {_PACKAGE / 'configs'} nor {_PACKAGE.parent / 'configs'}")


def recipe_names(folder: Path | None = None) -> list[str]:
    """What `--config-name` takes: `translation/multi30k_de_en`, …, sorted.

    Args:
        folder: where to look; by default the shipped configs.
    """
    root = folder or configs_dir()
    names = [path.relative_to(root).with_suffix("") for path in root.rglob("*.yaml")]
    return sorted(name.as_posix() for name in names if name.parts[0] not in COMPONENTS)


def variant_names(kind: str, folder: Path | None = None) -> list[str]:
    """Named variants of a kind of component, such as fairseq's architectures (`model=transformer_iwslt_de_en`).

    Args:
        kind: section of the root config.
        folder: where to look; by default the shipped configs.
    """
    root = (folder or configs_dir()) / kind
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))
