"""Opening the files that encoders are given: one error for every way in which that can fail.

Knows nothing of what the files hold.
"""

from __future__ import annotations

from pathlib import Path

from seqkit.config.base import MISSING
from seqkit.errors import ConfigError, DataError


def model_file(path: str | None, option: str, holds: str) -> Path:
    """The path of a file that a user must give.

    Args:
        path: the value given.
        option: the option's full name (`"bpe.bpe_codes"`).
        holds: what the file holds, in words.

    Raises:
        ConfigError: nothing was given, or an internet address.
        DataError: there is no such file.
    """
    if path is None or path in ("", MISSING):
        raise ConfigError(f"{option} is not given; give the path of {holds}")
    if path.startswith(("http://", "https://")):
        raise ConfigError(
            f"{option}={path} is an internet address, and seqkit downloads nothing; "
            f"fetch that file yourself and give its local path ({option} is {holds})"
        )
    file = Path(path).expanduser()
    if not file.is_file():
        problem = "is not a file" if file.exists() else "does not exist"
        raise DataError(f"{option}={path} {problem}; give the path of {holds}")
    return file


def read_text(file: Path, option: str) -> str:
    """The whole of a UTF-8 text file, its line ends made `\\n`.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{option}={file} is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{option}={file} cannot be read: {error.strerror}") from error
