from seqkit.metrics.text_table import bytes_text, text_table


def test_columns():
    assert text_table(["part", "size"], [["encoder", "1,000"], ["x", "2"]]).splitlines() == [
        "  part      size",
        "  encoder  1,000",
        "  x            2",
    ]
    assert text_table(["a"], []) == "  a"


def test_bytes():
    assert [bytes_text(count) for count in (0, 512, 1536, 20 * 1024, 3.2 * 1024**2, 5 * 1024**3, 80 * 1024**3)] == [
        "0 B",
        "512 B",
        "1.5 KB",
        "20 KB",
        "3.2 MB",
        "5.0 GB",
        "80 GB",
    ]
