"""The corpus of examples/inverse_text_normalization: right, the same every time, and without leaks into the test."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "inverse_text_normalization"
SIZES = {"train": 20_000, "valid": 1_000, "test": 1_000}


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_corpus", EXAMPLE / "make_corpus.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_corpus"] = module
    spec.loader.exec_module(module)
    return module


make_corpus: Any = _load()


@pytest.fixture(scope="module")
def corpus() -> Any:
    return make_corpus.make_corpus(1, SIZES)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (77, "seventy seven"),
        (100, "one hundred"),
        (105, "one hundred and five"),
        (999, "nine hundred and ninety nine"),
        (1000, "one thousand"),
        (2008, "two thousand and eight"),
        (12_345, "twelve thousand three hundred and forty five"),
        (412_605, "four hundred and twelve thousand six hundred and five"),
    ],
)
def test_cardinals(number: int, words: str) -> None:
    assert make_corpus.cardinal(number) == words


def test_american_cardinals_have_no_and() -> None:
    assert make_corpus.cardinal(1_105, british=False) == "one thousand one hundred five"


@pytest.mark.parametrize(
    ("number", "words", "figures"),
    [
        (1, "first", "1st"),
        (2, "second", "2nd"),
        (3, "third", "3rd"),
        (5, "fifth", "5th"),
        (8, "eighth", "8th"),
        (9, "ninth", "9th"),
        (11, "eleventh", "11th"),
        (12, "twelfth", "12th"),
        (13, "thirteenth", "13th"),
        (20, "twentieth", "20th"),
        (21, "twenty first", "21st"),
        (42, "forty second", "42nd"),
        (93, "ninety third", "93rd"),
        (111, "one hundred and eleventh", "111th"),
    ],
)
def test_ordinals(number: int, words: str, figures: str) -> None:
    assert make_corpus.ordinal(number) == words
    assert make_corpus.ordinal_figures(number) == figures


@pytest.mark.parametrize(
    ("year", "forms"),
    [
        (1700, {"seventeen hundred"}),
        (1805, {"eighteen oh five"}),
        (1914, {"nineteen fourteen"}),
        (1990, {"nineteen ninety"}),
        (2000, {"two thousand"}),
        (2008, {"two thousand and eight", "twenty oh eight"}),
        (2010, {"two thousand and ten", "twenty ten"}),
        (2026, {"two thousand and twenty six", "twenty twenty six"}),
    ],
)
def test_years(year: int, forms: set[str]) -> None:
    assert {make_corpus.year_words(year, form) for form in range(3)} == forms


def test_digits_can_be_doubled_but_say_the_same() -> None:
    said = {make_corpus.digit_words("0077555", Random(seed)) for seed in range(40)}
    assert said == {
        "oh oh seven seven five five five",
        "zero zero seven seven five five five",
        "double oh double seven triple five",
        "double zero double seven triple five",
    }


def drawn(kind: str, count: int = 6000) -> dict[str, str]:
    random = Random(7)
    values = [make_corpus.NUMERIC[kind](random) for _ in range(count)]
    return {value.spoken: value.written for value in values}


SAMPLES = [
    ("time", "half past four", "16:30"),
    ("time", "half past nine", "09:30"),
    ("time", "a quarter to eight", "07:45"),
    ("time", "a quarter to one", "12:45"),
    ("time", "a quarter past twelve", "12:15"),
    ("time", "twelve o'clock", "12:00"),
    ("time", "seven o'clock", "19:00"),
    ("time", "ten past eleven at night", "23:10"),
    ("time", "twenty to six in the morning", "05:40"),
    ("time", "five past five", "17:05"),
    ("time", "four oh five", "16:05"),
    ("time", "three in the afternoon", "15:00"),
    ("time", "eight p m", "20:00"),
    ("time", "noon", "12:00"),
    ("time", "midnight", "00:00"),
    ("time", "sixteen hundred hours", "16:00"),
    ("time", "a quarter to one p m", "12:45"),
    ("time", "a quarter to one a m", "00:45"),
    ("percent", "fifty percent", "50%"),
    ("percent", "four point five per cent", "4.5%"),
    ("decimal", "zero point five", "0.5"),
    ("decimal", "three point oh seven", "3.07"),
    ("money", "fifty pence", "£0.50"),
    ("money", "five pence", "£0.05"),
    ("money", "three pounds fifty", "£3.50"),
    ("money", "ten million pounds", "£10 million"),
    ("money", "one thousand pounds", "£1,000"),
    ("decade", "nineteen eighties", "1980s"),
    ("nth", "twenty first", "21st"),
    ("range", "five to seven", "5–7"),
    ("speed", "thirty miles per hour", "30 mph"),
    ("warmth", "twenty degrees", "20°"),
    ("warmth", "twenty degrees celsius", "20 °C"),
    ("area", "five square metres", "5 sq m"),
    ("distance", "two kilometres", "2 km"),
    ("large", "two thousand", "2,000"),
    ("number", "a hundred", "100"),
]


@pytest.mark.parametrize("kind", sorted({kind for kind, _, _ in SAMPLES}))
def test_samples_checked_by_hand(kind: str) -> None:
    found = drawn(kind, 20_000 if kind in ("time", "money") else 4_000)
    for expected_kind, spoken, written in SAMPLES:
        if expected_kind == kind:
            assert found.get(spoken) == written, spoken


def test_dates_in_all_their_forms() -> None:
    found = drawn("date", 20_000)
    assert found["the third of may"] == "3 May"
    assert found["may third"] == "3 May"
    assert found["may the third"] == "3 May"
    months = "January|February|March|April|May|June|July|August|September|October|November|December"
    days = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
    for written in found.values():
        *weekday, day, month, _ = [*written.split(), ""] if written.split()[-1].isalpha() else written.split()
        assert day.isdigit()
        assert month in months.split("|")
        assert not weekday or weekday[0] in days.split("|")
    with_weekday = [spoken.split(" ", 1) for spoken in found if spoken.split()[0] in make_corpus.WEEKDAYS]
    compared = [(day, rest) for day, rest in with_weekday if rest in found]
    assert len(compared) > 100
    for day, rest in compared:
        assert found[f"{day} {rest}"] == f"{day.capitalize()} {found[rest]}"
    assert {spoken for spoken, written in found.items() if written == "21 November 2026"} <= {
        f"{day} {year}"
        for day in ("the twenty first of november", "november twenty first", "november the twenty first")
        for year in ("twenty twenty six", "two thousand and twenty six")
    }


def test_phone_numbers_are_nobodys() -> None:
    for spoken, written in drawn("phone", 500).items():
        assert written.startswith(tuple(f"{prefix} {middle}" for prefix, middle in make_corpus._PHONE_FORMS))
        assert len(written.replace(" ", "")) in (10, 11)
        assert spoken.split()[0] in ("oh", "zero")


def test_periods_go_forward() -> None:
    for written in drawn("period", 300).values():
        low, high = written.split(" until ")
        assert int(low) < int(high)


def test_one_way_of_saying_has_one_way_of_writing(corpus: Any) -> None:
    """Within a kind of value; between kinds the words around it decide ("in two thousand": 2000, or 2,000 of them)."""
    written: dict[tuple[str, str], str] = {}
    for example in (example for examples in corpus.values() for example in examples):
        for kind, value in example.values:
            assert written.setdefault((kind, value.spoken), value.written) == value.written


def test_sizes_and_sentences(corpus: Any) -> None:
    assert {name: len(examples) for name, examples in corpus.items()} == SIZES
    spoken = [example.spoken for examples in corpus.values() for example in examples]
    assert len(set(spoken)) == len(spoken)
    for sentence in spoken:
        assert sentence == " ".join(sentence.split())
        assert not any(character.isdigit() or character.isupper() or character in "{}" for character in sentence)


def test_the_same_seed_gives_the_same_corpus_and_another_does_not() -> None:
    sizes = {"train": 50, "valid": 10, "test": 10}
    assert make_corpus.make_corpus(1, sizes) == make_corpus.make_corpus(1, sizes)
    assert make_corpus.make_corpus(1, sizes) != make_corpus.make_corpus(2, sizes)
    longer = make_corpus.make_corpus(1, {**sizes, "train": 60})
    assert longer["train"][:50] == make_corpus.make_corpus(1, sizes)["train"]


def test_the_tests_phrasings_are_in_no_other_split(corpus: Any) -> None:
    carriers = {name: {example.carrier for example in corpus[name]} for name in SIZES}
    assert not carriers["test"] & (carriers["train"] | carriers["valid"])
    assert len(carriers["train"]) > 1_500
    assert len(carriers["test"]) > 150


def test_carriers_can_be_read_in_one_way(corpus: Any) -> None:
    for carrier in {example.carrier for examples in corpus.values() for example in examples}:
        prepositions = [word for word in carrier.split() if word in ("until", "since", "before", "after", "by")]
        assert len(set(prepositions)) == len(prepositions), carrier
        assert len(re.findall(r"\{(?:year|date|period|decade)\}", carrier)) <= 2, carrier


def test_the_tests_composed_values_are_in_no_other_split(corpus: Any) -> None:
    known = {(kind, value.written) for name in ("train", "valid") for e in corpus[name] for kind, value in e.values}
    composed = [
        (kind, value) for example in corpus["test"] for kind, value in example.values if make_corpus.is_composed(value)
    ]
    assert len(composed) > 700
    assert not {(kind, value.written) for kind, value in composed} & known


def test_every_word_of_the_test_is_in_the_training(corpus: Any) -> None:
    for language in ("spoken", "written"):
        known = {word for example in corpus["train"] for word in getattr(example, language).split()}
        asked = {word for example in corpus["test"] for word in getattr(example, language).split()}
        assert not {word for word in asked - known if not any(character.isdigit() for character in word)}


def test_the_script_writes_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--output", str(tmp_path / "made"), "--train", "20", "--valid", "5", "--test", "5"]
    assert make_corpus.main(arguments) == 0
    assert "20 pairs of train, 5 pairs of valid, 5 pairs of test" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "made").iterdir())
    assert names == [f"{split}.{side}" for split in ("test", "train", "valid") for side in ("spoken", "written")]
    written = (tmp_path / "made" / "train.written").read_bytes()
    assert written.count(b"\n") == 20
    assert make_corpus.main(arguments) == 0
    assert (tmp_path / "made" / "train.written").read_bytes() == written
