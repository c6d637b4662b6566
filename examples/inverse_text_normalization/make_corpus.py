"""Makes a corpus of inverse text normalisation: spoken English (as a speech recogniser writes it) to written form.

    python make_corpus.py --output corpus

writes `{train,valid,test}.{spoken,written}`, one sentence on each line, the same for the same seed. The written
convention and what is held out for the test are told in README.md beside this file. Needs no packages.
"""

from __future__ import annotations

import argparse
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

HELD_OUT_SHARE = 8
"""One value in this many is kept for the test."""

_DIGIT_AGAIN = re.compile(r"\b(\w+) \1\b|double|triple")
HARD = {"time": (re.compile(r" to "), 0.7), "phone": (_DIGIT_AGAIN, 0.5), "code": (_DIGIT_AGAIN, 0.5)}
"""What is hard to learn of a kind, as it is said, and the share of its other values that training draws anew for it."""


@dataclass(frozen=True)
class Value:
    """One thing said and how it is written (`"half past four"`, `"16:30"`)."""

    spoken: str
    written: str


@dataclass(frozen=True)
class Example:
    """One sentence pair, the carrier it was made of, and its values with their kinds."""

    spoken: str
    written: str
    carrier: str
    values: tuple[tuple[str, Value], ...]


# Numbers in words -----------------------------------------------------------------------------------------------------

ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_IRREGULAR_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def cardinal(number: int, *, british: bool = True) -> str:
    """`412605` is "four hundred and twelve thousand six hundred and five" (without "and" where not British)."""
    if number < 20:
        return ONES[number]
    if number < 100:
        return TENS[number // 10] + (f" {ONES[number % 10]}" if number % 10 else "")
    if number < 1000:
        head, rest = f"{ONES[number // 100]} hundred", number % 100
    else:
        head, rest = f"{cardinal(number // 1000, british=british)} thousand", number % 1000
    if not rest:
        return head
    link = " and " if british and rest < 100 else " "
    return f"{head}{link}{cardinal(rest, british=british)}"


def ordinal(number: int) -> str:
    """`21` is "twenty first"."""
    *front, last = cardinal(number).split()
    if last in _IRREGULAR_ORDINALS:
        last = _IRREGULAR_ORDINALS[last]
    else:
        last = f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th"
    return " ".join([*front, last])


def ordinal_figures(number: int) -> str:
    """`21` is "21st"."""
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def year_words(year: int, form: int = 0) -> str:
    """A year as it is said; `form` chooses between the ways there are ("twenty ten", "two thousand and ten")."""
    century, rest = divmod(year, 100)
    pairs = f"{cardinal(century)} {cardinal(rest) if rest > 9 else f'oh {ONES[rest]}'}"
    if 2000 <= year < 2010:
        return cardinal(year) if rest == 0 or form % 3 else pairs
    if year >= 2010:
        return cardinal(year) if form % 3 == 0 else pairs
    return f"{cardinal(century)} hundred" if rest == 0 else pairs


def digit_words(digits: str, random: Random) -> str:
    """Digits said one by one: "oh" or "zero" throughout, pairs and threes sometimes as "double" and "triple"."""
    zero = random.choice(["oh", "zero"])
    short = random.random() < 0.5
    words: list[str] = []
    for match in re.finditer(r"(\d)\1{0,2}", digits):
        run = match.group()
        word = zero if run[0] == "0" else ONES[int(run[0])]
        if short and len(run) > 1:
            words.append(f"{'double' if len(run) == 2 else 'triple'} {word}")
        else:
            words.extend([word] * len(run))
    return " ".join(words)


# Kinds of values ------------------------------------------------------------------------------------------------------


def small_number(random: Random) -> Value:
    """2 to 999, small ones more often."""
    number = int(random.choice([random.uniform(2, 21), random.uniform(21, 100), random.uniform(100, 1000)]))
    if number == 100 and random.random() < 0.5:
        return Value("a hundred", "100")
    return Value(cardinal(number, british=random.random() < 0.8), str(number))


def large_number(random: Random) -> Value:
    """1,000 to 99,999, written with a comma."""
    number = random.choice([random.randrange(1000, 10_000), random.randrange(10_000, 100_000)])
    number -= number % random.choice([1, 1, 10, 100, 1000])
    return Value(cardinal(number, british=random.random() < 0.8), f"{number:,}")


def nth(random: Random) -> Value:
    number = random.choice([random.randint(1, random.choice([12, 31, 99])), 10 * random.randint(1, 9)])
    return Value(ordinal(number), ordinal_figures(number))


def decimal(random: Random) -> Value:
    whole = random.choice([random.randint(0, 9), random.randint(0, 99)])
    places = random.choice(["", "", random.choice("0123456789")]) + random.choice("123456789")
    spoken_whole = random.choice(["zero", "nought"]) if whole == 0 else cardinal(whole)
    spoken_places = " ".join("oh" if digit == "0" else ONES[int(digit)] for digit in places)
    return Value(f"{spoken_whole} point {spoken_places}", f"{whole}.{places}")


def percentage(random: Random) -> Value:
    number = decimal(random) if random.random() < 0.4 else Value(*_said(random.randint(1, 100)))
    return Value(f"{number.spoken} {random.choice(['percent', 'per cent'])}", f"{number.written}%")


def _year(random: Random) -> tuple[int, str]:
    number = random.randint(*random.choice([(1700, 1899), (1900, 1999), (2000, 2039)]))
    return number, year_words(number, random.randrange(3))


def year(random: Random) -> Value:
    number, spoken = _year(random)
    return Value(spoken, str(number))


def period(random: Random) -> Value:
    """Two years in their order: "1914 until 1918"."""
    low, spoken_low = _year(random)
    high, spoken_high = _year(random)
    if low == high:
        return period(random)
    if low > high:
        low, spoken_low, high, spoken_high = high, spoken_high, low, spoken_low
    return Value(f"{spoken_low} until {spoken_high}", f"{low} until {high}")


def decade(random: Random) -> Value:
    number = random.choice([1700, 1800, 1900]) + 10 * random.randint(2, 9)
    return Value(f"{cardinal(number // 100)} {TENS[number % 100 // 10][:-1]}ies", f"{number}s")


def date(random: Random) -> Value:
    """Day and month, often with the year, sometimes with the weekday: "21 November 2026", "Monday 3 May"."""
    day, month = random.randint(1, 28), random.randrange(12)
    spoken = random.choice(
        [f"the {ordinal(day)} of {MONTHS[month]}"] * 2
        + [f"{MONTHS[month]} {ordinal(day)}", f"{MONTHS[month]} the {ordinal(day)}"]
    )
    written = f"{day} {MONTHS[month].capitalize()}"
    if random.random() < 0.5:
        number = random.randint(1950, 2039)
        spoken += f" {year_words(number, random.randrange(3))}"
        written += f" {number}"
    elif random.random() < 0.4:
        weekday = random.choice(WEEKDAYS)
        spoken, written = f"{weekday} {spoken}", f"{weekday.capitalize()} {written}"
    return Value(spoken, written)


def _resolved_hour(hour: int, part: str) -> int:
    """The hour on the 24-hour clock of `hour` (1 to 12) in a part of the day ("" is the working day, 08 to 19)."""
    if part in ("in the morning", "a m"):
        return hour % 12
    if part in ("in the afternoon", "in the evening", "at night", "p m"):
        return hour % 12 + 12
    return hour if hour >= 8 else hour + 12


_HOURS_OF = {
    "": range(1, 13),
    "in the morning": range(1, 12),
    "in the afternoon": range(1, 6),
    "in the evening": range(5, 10),
    "at night": range(9, 12),
    "a m": range(1, 12),
    "p m": range(1, 12),
}


def time_of_day(random: Random) -> Value:
    """24-hour clock. Without a part of the day, eight to eleven are the morning, the other hours from noon on."""
    if random.random() < 0.08:
        return random.choice([Value("noon", "12:00"), Value("midnight", "00:00")])
    if random.random() < 0.12:
        hour, minute = random.randint(13, 23), random.choice([0, *[random.randint(10, 59)] * 3])
        spoken = f"{cardinal(hour)} {'hundred' if minute == 0 else cardinal(minute)}"
        return Value(spoken + random.choice(["", " hours"] if minute == 0 else [""]), f"{hour}:{minute:02}")
    part = random.choice(["", "", "", "", *_HOURS_OF])
    hour = random.choice(_HOURS_OF[part])
    minute, clock_hour = random.choice([0, 0, 15, 30, 30, 5, 10, 20, 25, 35, 40, 45, 50, 55]), ONES[hour]
    form = random.random()
    if minute == 0:
        plain = part != ""  # "at four" alone could be a count
        spoken = clock_hour if plain and form < 0.7 else f"{clock_hour} o'clock"
    elif form < 0.3 or (form < 0.4 and minute % 15):
        minute = random.choice([minute, random.randint(1, 59)])
        spoken = f"{clock_hour} {cardinal(minute) if minute > 9 else f'oh {ONES[minute]}'}"
    elif minute <= 30:
        spoken = f"{_MINUTES[minute]} past {clock_hour}"
    else:  # the hour named is the one that comes
        spoken = f"{_MINUTES[60 - minute]} to {clock_hour}"
        total = (_resolved_hour(hour, part) * 60 + minute - 60) % (24 * 60)
        return Value(f"{spoken} {part}".strip(), f"{total // 60:02}:{minute:02}")
    return Value(f"{spoken} {part}".strip(), f"{_resolved_hour(hour, part):02}:{minute:02}")


_MINUTES = {5: "five", 10: "ten", 15: "a quarter", 20: "twenty", 25: "twenty five", 30: "half"}

_CURRENCIES = {
    "£": ("pound", "pounds", "pence"),
    "$": ("dollar", "dollars", "cents"),
    "€": ("euro", "euros", "cents"),
}


def money(random: Random) -> Value:
    """The sign stands before the amount, which has no decimals or two: "£25", "$3.50", "€2.5 million", "£1,200"."""
    sign = random.choice("££$€")
    singular, plural, small = _CURRENCIES[sign]
    form = random.random()
    if form < 0.12:
        millions = decimal(random) if random.random() < 0.4 else Value(*_said(random.randint(2, 99)))
        unit = random.choice(["million", "million", "billion"])
        return Value(f"{millions.spoken} {unit} {plural}", f"{sign}{millions.written} {unit}")
    if form < 0.2:
        pence = random.randint(2, 99)
        return Value(f"{cardinal(pence)} pence", f"£0.{pence:02}")
    if form < 0.5:
        whole, minor = random.choice([random.randint(1, 20), random.randint(1, 200)]), random.randint(1, 99)
        major = f"{cardinal(whole)} {singular if whole == 1 else plural}"
        if minor > 9 and random.random() < 0.6:
            return Value(f"{major} {cardinal(minor)}", f"{sign}{whole}.{minor:02}")
        minor = max(minor, 2)
        return Value(f"{major} and {cardinal(minor)} {small}", f"{sign}{whole}.{minor:02}")
    number = random.choice([small_number, small_number, large_number])(random)
    return Value(f"{number.spoken} {plural}", f"{sign}{number.written}")


_UNITS: dict[str, dict[str, str]] = {
    "distance": {"kilometres": "km", "metres": "m", "miles": "mi"},
    "length": {"metres": "m", "centimetres": "cm", "millimetres": "mm"},
    "amount": {"kilograms": "kg", "grams": "g", "tonnes": "t", "litres": "l", "millilitres": "ml"},
    "weight": {"kilograms": "kg", "grams": "g"},
    "speed": {"kilometres per hour": "km/h", "miles per hour": "mph"},
    "warmth": {"degrees celsius": "°C", "degrees": "°"},
    "area": {"square metres": "sq m", "hectares": "ha"},
    "power": {"watts": "W", "kilowatts": "kW", "volts": "V"},
    "memory": {"gigabytes": "GB", "megabytes": "MB"},
}


def measure(dimension: str) -> Callable[[Random], Value]:
    """A number and the unit's sign with a space between (but "30°")."""

    def make(random: Random) -> Value:
        number = random.choice([small_number, small_number, decimal])(random)
        unit, sign = random.choice(list(_UNITS[dimension].items()))
        return Value(f"{number.spoken} {unit}", f"{number.written}{'' if sign == '°' else ' '}{sign}")

    return make


def number_range(random: Random) -> Value:
    low = random.randint(2, random.choice([10, 40, 90]))
    high = low + random.randint(1, random.choice([5, 9, 20]))
    return Value(f"{cardinal(low)} to {cardinal(high)}", f"{low}–{high}")


_PHONE_FORMS = [
    (prefix, middle)
    for prefix, middle in (
        ("0113", "496 0"), ("0114", "496 0"), ("0115", "496 0"), ("0116", "496 0"), ("0117", "496 0"),
        ("0118", "496 0"), ("0121", "496 0"), ("0131", "496 0"), ("0141", "496 0"), ("0151", "496 0"),
        ("0161", "496 0"), ("0191", "498 0"), ("020", "7946 0"), ("028", "9018 0"), ("029", "2018 0"),
        ("01632", "960"), ("07700", "900"), ("0808", "157 0"), ("0909", "879 0"), ("03069", "990"),
    )
]  # fmt: skip
"""Numbers that Ofcom keeps free for drama: they are nobody's."""


def phone_number(random: Random) -> Value:
    prefix, middle = random.choice(_PHONE_FORMS)
    written = f"{prefix} {middle}{random.randrange(1000):03}"
    return Value(digit_words(written.replace(" ", ""), random), written)


def code(random: Random) -> Value:
    """Digits said one by one: a door code, a PIN, a booking number."""
    digits = "".join(random.choice("0123456789") for _ in range(random.randint(3, 7)))
    return Value(digit_words(digits, random), digits)


_STREETS = [
    "king street", "mill lane", "station road", "church street", "park avenue", "high street", "victoria road",
    "green lane", "queen street", "bridge street", "london road", "garden close",
]  # fmt: skip


def address(random: Random) -> Value:
    """House number (with a letter sometimes) and street: "21B King Street"."""
    number = random.choice([random.randint(1, 99), random.randint(1, 99), random.randint(100, 399)])
    letter = random.choice(["", "", "", "b", "c", "d"])
    street = random.choice(_STREETS)
    spoken = f"{cardinal(number)} {letter} {street}" if letter else f"{cardinal(number)} {street}"
    return Value(spoken, f"{number}{letter.upper()} {street.title()}")


def _said(number: int) -> tuple[str, str]:
    return cardinal(number), str(number)


def _names(names: str) -> Callable[[Random], Value]:
    values = [Value(name, name.title()) for name in names.split(",")]
    return lambda random: random.choice(values)


def _words(words: str) -> Callable[[Random], Value]:
    values = [Value(word, word) for word in words.split(",")]
    return lambda random: random.choice(values)


NUMERIC: dict[str, Callable[[Random], Value]] = {
    "number": small_number,
    "large": large_number,
    "nth": nth,
    "decimal": decimal,
    "percent": percentage,
    "year": year,
    "period": period,
    "decade": decade,
    "date": date,
    "time": time_of_day,
    "money": money,
    **{dimension: measure(dimension) for dimension in _UNITS},
    "range": number_range,
    "phone": phone_number,
    "code": code,
    "address": address,
}
FILLERS: dict[str, Callable[[Random], Value]] = {
    "person": _names("maria,james,aisha,peter,doctor chen,mrs patel,mr jones,sofia,daniel,grace,omar,professor lee"),
    "city": _names("london,leeds,bristol,cardiff,glasgow,belfast,york,paris,berlin,dublin,new york,oxford"),
    "event": _words("meeting,concert,lecture,interview,party,wedding,workshop,exam,hearing,match,course,ceremony"),
    "shop": _words("shop,museum,library,market,post office,bakery,bank,pharmacy,gallery,office"),
    "item": _words("ticket,coat,bicycle,lamp,table,phone,camera,book,ring,suitcase,chair,guitar"),
    "people": _words("people,visitors,students,guests,children,musicians,doctors,workers"),
    "goods": _words("books,chairs,tickets,boxes,cars,lamps,plates,bicycles"),
    "texts": _words("pages,letters,chapters,books,reports"),
    "places": _words("houses,trees,shops,rooms,gardens"),
    "spell": _words("minutes,hours,days,weeks,months,years"),
    "building": _words("bridge,castle,station,hospital,school,tower,theatre,church,factory,hotel"),
    "stuff": _words("flour,sand,rice,steel,salt,sugar,paper,milk,oil,water"),
    "figure": _words("rent,price,budget,profit,bill,fee,debt,salary,tax,prize"),
    "rate": _words("inflation,turnout,unemployment,demand,output,traffic,growth,the share of women"),
}

# Carriers -------------------------------------------------------------------------------------------------------------

_WHEN = "on {date} | at {time}"
_PAST = "in {year} | on {date} | in {city}"
_THEN = "in {year} | in the {decade} | in {city}"

CLAUSES: tuple[tuple[str, str], ...] = (
    # appointments and dates
    ("the {event} starts", f"{_WHEN} | in {{city}} | with {{person}} | at {{address}}"),
    ("the {event} ends", f"{_WHEN} | in {{city}} | with {{person}}"),
    ("the {event} takes place", f"{_WHEN} | in {{city}} | at {{address}} | on the {{nth}} floor"),
    ("our next {event} begins", f"{_WHEN} | in {{city}} | at the {{shop}}"),
    ("there is a {event}", f"{_WHEN} | in {{city}} | with {{person}} | at the {{shop}} | for {{money}}"),
    ("the {event} was moved", "to {date} | from {time} | to the {shop} | with {person}"),
    ("the {event} is", f"{_WHEN} | in {{city}} | at {{address}}"),
    ("we meet {person}", f"{_WHEN} | in {{city}} | at {{address}} | near the {{building}}"),
    ("{person} will arrive", f"{_WHEN} | in {{city}} | with {{number}} {{people}}"),
    ("please come", f"to the {{event}} | {_WHEN} | to {{address}} | with {{person}}"),
    ("the {shop} opens", f"{_WHEN} | in {{city}} | for {{number}} {{people}}"),
    ("the {shop} is closed", "until {time} | on {date} | from {period} | in {city}"),
    ("the train to {city} leaves", f"{_WHEN} | without {{person}} | from {{city}}"),
    ("the flight from {city} lands", f"{_WHEN} | in {{city}} | with {{number}} {{people}}"),
    ("call {person}", "before {time} | on {date} | on {phone}"),
    ("{person} was born", "on {date} | in {city} | in {year} | at {time}"),
    ("the contract ends", "on {date} | after {number} {spell} | with {person}"),
    ("the letter is dated {date}", "and not {date} | from {city} | by {person}"),
    ("we have heard nothing from {person}", "since {date} | for {number} {spell} | since {year}"),
    ("payment is due", "by {date} | after {range} days | at the {shop}"),
    # years
    ("the {building} was built", f"{_THEN} | by {{person}} | for {{money}}"),
    ("the {building} was opened", f"{_PAST} | by {{person}} | with a {{event}}"),
    ("the {building} burned down", f"{_PAST} | at {{time}}"),
    ("the {building} was a {shop}", f"{_THEN} | from {{period}}"),
    ("{person} lived", "in {city} | from {period} | at {address} | in the {decade} | with {person}"),
    ("{person} moved", "to {city} | in {year} | on {date} | to {address} | with {number} {goods}"),
    ("{city} has changed", "since {year} | since the {decade} | with {number} {people}"),
    ("the {item} dates", "from {year} | from the {decade} | by the way"),
    ("music of the {decade} is popular again", "in {city} | since {year} | at the {shop}"),
    ("{person} was popular", _THEN),
    # money
    ("the {item} costs {money}", "in {city} | at the {shop} | since {date}"),
    ("{person} paid {money}", f"for the {{item}} | {_PAST} | at the {{shop}}"),
    ("{person} bought the {item}", f"for {{money}} | {_PAST} | at the {{shop}}"),
    ("we sold the {item}", f"for {{money}} | {_PAST} | to {{person}}"),
    ("the {figure} is {money}", "a month | in {city} | since {year}"),
    ("the {figure} rose", f"by {{money}} | by {{percent}} | {_PAST}"),
    ("the {figure} fell", f"to {{money}} | by {{percent}} | {_PAST}"),
    ("the {building} cost {money}", _THEN),
    ("{person} owes me {money}", "for the {item} | since {date} | for {amount} of {stuff}"),
    ("they gave {money}", f"to the {{building}} | {_PAST} | to {{person}}"),
    ("entry to the {shop} is {money}", "in {city} | after {time} | for {people}"),
    # counts
    ("there were {number} {people}", f"at the {{event}} | {_PAST} | at {{time}}"),
    ("{large} {people} came", f"to the {{event}} | {_PAST} | from {{city}}"),
    ("the {shop} has {large} {goods}", "in {city} | from {period} | on the {nth} floor"),
    ("{person} waited", f"for {{number}} {{spell}} | {_PAST} | at the {{shop}} | until {{time}}"),
    ("we need {number} {goods}", "by {date} | for the {event} | before {time} | for {number} {people}"),
    ("they sold {large} {goods}", f"{_PAST} | for {{money}}"),
    ("the {event} takes {number} {spell}", "in {city} | with {person} | at the {shop}"),
    ("{person} wrote {number} {texts}", f"in {{number}} {{spell}} | {_PAST} | about {{city}}"),
    ("about {number} {goods} are missing", "since {date} | at the {shop} | in {city}"),
    ("the {building} has {number} rooms", "in {city} | on the {nth} floor | since {year}"),
    ("{large} {people} live", "in {city} | near the {building} | in {number} {places}"),
    # ordinals
    ("the {shop} is on the {nth} floor", "of the {building} | at {address} | in {city}"),
    ("{person} finished in {nth} place", f"{_PAST} | after {{number}} {{spell}}"),
    ("this is the {nth} {event}", "in {city} | since {year} | with {person}"),
    ("{person} came to {city} for the {nth} time", "in {year} | on {date} | with {person}"),
    ("turn left", "at the {nth} {building} | after {distance} | before the {building}"),
    ("the {nth} of the {number} {goods} is missing", "since {date} | at the {shop} | in {city}"),
    ("the {nth} {building} is on the left", "after {distance} | in {city} | at {address}"),
    # percentages
    ("{rate} rose", f"by {{percent}} | {_THEN}"),
    ("{rate} fell", f"from {{percent}} | to {{percent}} | {_THEN}"),
    ("{percent} of the {people} came", f"from {{city}} | to the {{event}} | {_PAST}"),
    ("about {percent} of the {figure} is paid", "by {person} | by {date} | in {city}"),
    ("the bank pays {percent}", "a year | since {date} | in {city}"),
    ("only {percent} of the {goods} were sold", "by {date} | in {city} | in {year}"),
    # measures
    ("the {building} is {distance} away", "from the {shop} | from {city} | in the {decade} | with {number} rooms"),
    ("add {amount} of {stuff}", "after {number} minutes | at {warmth} | before {time}"),
    ("we bought {amount} of {stuff}", f"for {{money}} | {_PAST}"),
    ("the {item} weighs {weight}", "without the {item} | with the {goods} | since {year}"),
    ("keep the {stuff}", "at {warmth} | for {number} {spell} | until {time} | until {date}"),
    ("it was {warmth}", f"in {{city}} | {_WHEN}"),
    ("the limit is {speed}", "in {city} | near the {building} | after {distance} | since {year}"),
    ("{person} drove {distance}", f"to {{city}} | {_PAST} | with {{person}} | at {{speed}}"),
    ("the {item} is {length} long", "without the {item} | after {number} {spell} | since {year}"),
    ("the garden has {area}", "near the {building} | in {city} | since {year}"),
    ("the lamp needs {power}", "for {number} {spell} | at {warmth} | until {time}"),
    ("the file has {memory}", "since {date} | after {number} {spell} | in {city}"),
    ("the value is {decimal}", "and not {decimal} | for {number} {spell} | since {date} | in {city}"),
    ("divide it", "by {decimal} | after {number} {spell} | before {time}"),
    # ranges
    ("read pages {range}", "before the {event} | by {date} | until {time} | about {city}"),
    ("chapters {range} are", "about {city} | by {person} | from {year}"),
    ("we expect {range} {people}", f"at the {{event}} | {_WHEN} | from {{city}}"),
    ("delivery takes {range} days", "to {city} | for {money} | since {date}"),
    # telephone
    ("{person} can be reached", "on {phone} | until {time} | at {address} | on {date}"),
    ("the number of the {shop} is {phone}", "in {city} | since {date} | until {time}"),
    ("please ring {phone}", "before {time} | on {date} | after the {event}"),
    ("the code of the door is {code}", "since {date} | until {time} | at {address}"),
    ("your booking number is {code}", "for the {event} | on {date} | with {person}"),
    ("type {code}", "and press enter | before {time} | at the door"),
    ("the code was changed", "from {code} | to {code} | on {date} | at {time} | by {person}"),
    ("my number is {phone}", "in {city} | since {year} | until {time}"),
    # addresses
    ("{person} lives", "at {address} | in {city} | since {year} | with {number} {people}"),
    ("send the {item}", "to {address} | to {person} | before {date} | with {number} {goods}"),
    ("the {shop} is at {address}", "in {city} | since {year} | near the {building}"),
    ("there was a fire", f"at {{address}} | {_WHEN} | in {{city}} | in {{year}}"),
    ("the {shop} was moved", f"to {{address}} | {_PAST}"),
    # nothing to convert
    ("{person} is", "in {city} | with {person} | at the {shop}"),
    ("where is the {building}", "of {city} | from {year} | with {number} rooms"),
    ("we have questions", "about the {event} | about the {item} | for {person}"),
)
"""What a sentence says, and the phrases that may be added (at most three, in any order, one of them in front)."""

_SLOT = re.compile(r"\{(\w+)\}")
OPENINGS = ("i think ", "please note that ", "we were told that ", "yes ", "so ", "as i said ")
CLOSINGS = (" thank you", " as usual", " if possible", " i hope", " in any case")
_NO_STATEMENT = ("please", "call", "turn", "add", "keep", "divide", "read", "type", "send", "where")
_TO_THE_FRONT = (
    "in {year}",
    "on {date}",
    "in {city}",
    "in the {decade}",
    "at the {shop}",
    "from {period}",
    "since {date}",
)
_DATED = ("{year}", "{date}", "{period}", "{decade}")


def draw_carrier(random: Random) -> tuple[str, int]:
    """A clause with some of its phrases ("in {city} the {event} starts at {time}"), and how many they are."""
    core, options = random.choice(CLAUSES)
    phrases = options.split(" | ")
    random.shuffle(phrases)
    chosen: list[str] = []
    for phrase in phrases[: random.choice([1, 1, 2, 2, 2, 3])]:
        if not any(phrase.split()[0] == other.split()[0] or (_dated(phrase) and _dated(other)) for other in chosen):
            chosen.append(phrase)
    if len(chosen) > 1 and chosen[0] in _TO_THE_FRONT and not _begins_with_number(core) and _is_statement(core):
        return " ".join([chosen[0], core, *chosen[1:]]), len(chosen)
    return " ".join([core, *chosen]), len(chosen)


def _dated(phrase: str) -> bool:
    return phrase.endswith(_DATED)


def _begins_with_number(carrier: str) -> bool:
    slot = _SLOT.match(carrier)
    return slot is not None and slot.group(1) in NUMERIC


def _is_statement(carrier: str) -> bool:
    return carrier.split()[0] not in _NO_STATEMENT


def is_held_out_carrier(carrier: str, phrases: int) -> bool:
    """Whether a phrasing is one of those that only the test has: a fixed eighth of those with two phrases or three."""
    return phrases > 1 and zlib.crc32(carrier.encode()) % HELD_OUT_SHARE == 0


_NUMBER_WORDS = frozenset(
    [
        *ONES,
        *TENS[2:],
        *MONTHS,
        *(ordinal(number) for number in [*range(1, 20), *range(20, 100, 10)]),
        *("hundred", "thousand", "million", "billion", "oh", "nought", "double", "triple", "half", "quarter"),
    ]
)


def is_composed(value: Value) -> bool:
    """Whether a value is said with two or more words of number, so that it can be understood from its parts."""
    return sum(word in _NUMBER_WORDS for word in value.spoken.split()) >= 2


def is_held_out(kind: str, value: Value) -> bool:
    """Whether a value is one of those that only the test has: a fixed eighth of the composed ones of its kind."""
    return is_composed(value) and zlib.crc32(f"{kind}:{value.written}".encode()) % HELD_OUT_SHARE == 0


def make_example(random: Random, *, test: bool) -> Example:
    """One sentence pair. In the test every carrier and composed value is a held-out one; elsewhere none is."""
    carrier = _carrier(random, test)
    statement = _is_statement(carrier)
    opening = random.choice(OPENINGS) if statement and random.random() < 0.3 else ""
    closing = random.choice(CLOSINGS if statement else CLOSINGS[:1]) if random.random() < 0.2 else ""
    template = f"{opening}{carrier}{closing}"
    slots = _SLOT.findall(template)
    values = [_value(random, kind, test) for kind in slots]
    spoken, written = template, template
    for kind, value in zip(slots, values, strict=True):
        spoken = spoken.replace(f"{{{kind}}}", value.spoken, 1)
        written = written.replace(f"{{{kind}}}", value.written, 1)
    numeric = tuple((kind, value) for kind, value in zip(slots, values, strict=True) if kind in NUMERIC)
    return Example(spoken, written, carrier, numeric)


def _carrier(random: Random, test: bool) -> str:
    while True:
        carrier, phrases = draw_carrier(random)
        if is_held_out_carrier(carrier, phrases) == test:
            return carrier


def _value(random: Random, kind: str, test: bool) -> Value:
    if kind in FILLERS:
        return FILLERS[kind](random)
    while True:
        value = NUMERIC[kind](random)
        if not test and kind in HARD:
            pattern, redrawn = HARD[kind]
            if not pattern.search(value.spoken) and random.random() < redrawn:
                continue
        if not is_composed(value) or is_held_out(kind, value) == test:
            return value


def make_corpus(seed: int, sizes: dict[str, int]) -> dict[str, list[Example]]:
    """All splits; no spoken sentence occurs twice, and no composed value of the test is in another split.

    Args:
        seed: of all that is drawn.
        sizes: sentences of each split, in the order in which they are made; `"test"` must be the last.
    """
    seen: set[str] = set()
    known: set[tuple[str, str]] = set()

    def split(name: str, size: int) -> Iterator[Example]:
        random = Random(f"{seed} {name}")
        while size:
            example = make_example(random, test=name == "test")
            if name == "test" and any(
                is_composed(value) and (kind, value.written) in known for kind, value in example.values
            ):
                continue  # a value that can be said in one word too ("ten p m", "twenty two hundred")
            if example.spoken not in seen:
                seen.add(example.spoken)
                known.update((kind, value.written) for kind, value in example.values if name != "test")
                size -= 1
                yield example

    return {name: list(split(name, size)) for name, size in sizes.items()}


def main(argv: list[str] | None = None) -> int:
    """Write the corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="corpus", help="folder to write (default: corpus)")
    parser.add_argument("--seed", type=int, default=1, help="another seed gives other sentences (default: 1)")
    for name, size in (("train", 20_000), ("valid", 1_000), ("test", 1_000)):
        parser.add_argument(f"--{name}", type=int, default=size, help=f"sentences of {name} (default: {size})")
    arguments = parser.parse_args(argv)
    sizes = {"train": arguments.train, "valid": arguments.valid, "test": arguments.test}
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    for name, examples in make_corpus(arguments.seed, sizes).items():
        for language in ("spoken", "written"):
            lines = "".join(f"{getattr(example, language)}\n" for example in examples)
            (folder / f"{name}.{language}").write_text(lines, encoding="utf-8")
    print(f"wrote {', '.join(f'{size} pairs of {name}' for name, size in sizes.items())} to {folder}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
