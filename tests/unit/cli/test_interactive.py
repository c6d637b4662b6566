from __future__ import annotations

import io

from seqkit_cli.interactive import _decoded


def test_white_space_around_a_line_is_no_part_of_it() -> None:
    text = "  ein mann \t\n\u00a0zwei  hunde\u3000\r\n\n\tdrei\tkatzen"
    assert list(_decoded(io.BytesIO(text.encode()))) == ["ein mann", "zwei  hunde", "", "drei\tkatzen"]
