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
    if random.random() < 0.04:
        return random.choice([Value("noon", "12:00"), Value("midnight", "00:00")])
    if random.random() < 0.12:
        hour, minute = random.randint(13, 23), random.choice([0, *[random.randint(10, 59)] * 3])
        spoken = f"{cardinal(hour)} {'hundred' if minute == 0 else cardinal(minute)}"
        return Value(spoken + random.choice(["", " hours"] if minute == 0 else [""]), f"{hour}:{minute:02}")
    part = random.choice(["", "", "", "", *_HOURS_OF])
    hour = random.choice(_HOURS_OF[part])
    minute, clock_hour = random.choice([0, 0, 15, 30, 30, 45, 5, 10, 20, 25, 35, 40, 50, 55]), ONES[hour]
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
    "area": {"square metres": "m²", "square kilometres": "km²"},
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
    "dry": _words("flour,sand,rice,steel,salt,sugar,paper,milk,oil,water"),
    "figure": _words("rent,price,budget,profit,bill,fee,debt,salary,tax,prize"),
    "rate": _words("inflation,turnout,unemployment,demand,output,traffic,growth,the share of women"),
}

# Carriers -------------------------------------------------------------------------------------------------------------

CARRIERS: dict[str, tuple[str, ...]] = {
    "appointments": (
        "the {event} is on {date} at {time}",
        "the {event} was moved to {date}",
        "the {event} starts at {time} on {date}",
        "please come to the {event} at {time}",
        "{person} will arrive on {date} before {time}",
        "we meet {person} at {time}",
        "the {event} with {person} ends at {time}",
        "the {event} runs from {time} until {time}",
        "the {shop} opens at {time} and closes at {time}",
        "the train to {city} leaves at {time}",
        "the flight from {city} lands at {time} on {date}",
        "call {person} before {time}",
        "there is a {event} in {city} on {date}",
        "our next {event} begins at {time}",
        "from {date} until {date} the {shop} is closed",
        "is the {event} on {date} or on {date}",
        "on {date} the {shop} opens at {time}",
    ),
    "dates": (
        "{person} was born on {date}",
        "the contract ends on {date}",
        "the letter is dated {date}",
        "{person} moved to {city} on {date}",
        "the {building} was opened on {date}",
        "we have heard nothing from {person} since {date}",
        "payment is due by {date}",
        "the photo of {date} shows {person} and the {building}",
    ),
    "years": (
        "the {building} was built in {year}",
        "in {year} {person} moved to {city}",
        "{person} lived in {city} from {period}",
        "the {building} burned down in {year}",
        "in the {decade} the {building} was a {shop}",
        "{city} has changed since {year}",
        "the {item} dates from the {decade}",
        "by {year} there were {large} {places} in {city}",
        "music of the {decade} is popular again",
        "from {period} the {building} was closed",
    ),
    "money": (
        "the {item} costs {money}",
        "{person} paid {money} for the {item}",
        "the {figure} is {money} a month",
        "the {figure} rose by {money}",
        "we sold the {item} for {money} on {date}",
        "a {item} for {money} is too expensive",
        "the {building} cost {money} to build",
        "{person} owes me {money}",
        "they gave {money} to the {building}",
        "the {figure} fell by {percent} to {money}",
        "entry to the {shop} is {money}",
        "in {year} the {figure} was {money}",
    ),
    "counts": (
        "there were {number} {people} at the {event}",
        "{large} {people} came to the {event}",
        "the {shop} has {large} {goods}",
        "{person} waited for {number} {spell}",
        "we need {number} {goods} and {number} {goods}",
        "more than {large} {goods} were sold in {year}",
        "the {event} takes {number} {spell}",
        "it took {person} {number} {spell} to write {number} {texts}",
        "about {number} {goods} are missing",
        "the {building} has {number} rooms",
        "{large} {people} live in the {places} of {city}",
    ),
    "ordinals": (
        "the {shop} is on the {nth} floor",
        "{person} finished in {nth} place",
        "this is the {nth} {event} in {city}",
        "it was the {nth} time that {person} came to {city}",
        "the {nth} birthday of {person} is on {date}",
        "turn left at the {nth} {building}",
        "the {nth} of the {number} {goods} is missing",
    ),
    "percentages": (
        "{rate} rose by {percent} in {year}",
        "{rate} fell from {percent} to {percent}",
        "{percent} of the {people} came from {city}",
        "about {percent} of the {figure} is paid",
        "the bank pays {percent} a year",
        "{rate} is at {percent}",
        "only {percent} of the {goods} were sold by {date}",
    ),
    "measures": (
        "the {building} is {distance} from the {shop}",
        "add {amount} of {dry}",
        "we bought {amount} of {dry} for {money}",
        "the {item} weighs {weight}",
        "keep the {dry} at {warmth}",
        "it was {warmth} in {city} at {time}",
        "the limit is {speed}",
        "{person} drove {distance} to {city}",
        "the {item} is {length} long",
        "the garden has {area}",
        "the lamp needs {power}",
        "the file has {memory}",
        "the value is {decimal} and not {decimal}",
        "divide it by {decimal}",
    ),
    "ranges": (
        "read pages {range} before the {event}",
        "the {event} takes {range} {spell}",
        "it is for children of {range} years",
        "we expect {range} {people} at the {event}",
        "chapters {range} are about {city}",
        "delivery takes {range} days and costs {money}",
    ),
    "telephone": (
        "call me on {phone}",
        "{person} can be reached on {phone}",
        "the number of the {shop} is {phone}",
        "please ring {phone} before {time}",
        "the code of the door is {code}",
        "your booking number is {code}",
        "type {code} and press enter",
        "if you have questions ring {phone}",
        "the code was changed from {code} to {code}",
    ),
    "addresses": (
        "{person} lives at {address}",
        "send the {item} to {address} in {city}",
        "the {shop} is at {address}",
        "we meet at {address} at {time}",
        "the {shop} was moved to {address} in {year}",
        "my address is {address}",
        "there was a fire at {address} on {date}",
        "from {address} to {address} it is not far",
    ),
    "plain": (
        "{person} is in {city}",
        "the {shop} in {city} is closed",
        "{person} bought a {item} at the {shop}",
        "where is the {building}",
        "please send the {item} to {person}",
        "we have questions about the {event}",
    ),
}
"""Phrasings of training and validation."""

HELD_OUT_CARRIERS: dict[str, tuple[str, ...]] = {
    "appointments": (
        "on {date} at {time} there is a {event} in {city}",
        "the {event} in {city} begins at {time}",
        "the train from {city} leaves at {time} on {date}",
        "{person} will be at the {shop} until {time}",
    ),
    "dates": ("on {date} {person} bought the {item}", "the letter of {date} is missing"),
    "years": (
        "the {shop} was opened in {year}",
        "from {period} there was a {building} in {city}",
        "{person} was popular in the {decade}",
    ),
    "money": (
        "we paid {money} for a {item} in {city}",
        "the {figure} is due and it is {money}",
        "in {year} the {figure} rose by {money}",
    ),
    "counts": ("{person} sold {number} {goods} in {number} {spell}", "there are {large} {goods} in the {building}"),
    "ordinals": ("the {nth} {building} is on the left", "{person} lives on the {nth} floor"),
    "percentages": (
        "in {city} {rate} rose from {percent} to {percent}",
        "{percent} of the {dry} is missing",
    ),
    "measures": (
        "the {shop} sold {amount} of {dry} in {year}",
        "it is {distance} from {city} to the {building}",
        "it was {warmth} on {date}",
        "the value was changed to {decimal}",
    ),
    "ranges": ("about {range} {people} were missing", "read chapters {range} by {date}"),
    "telephone": (
        "the {shop} can be reached on {phone}",
        "my number is {phone}",
        "the door of the {building} opens if you type {code}",
    ),
    "addresses": ("please come to {address} at {time}", "{person} moved from {address} to {address}"),
    "plain": ("{person} lived in {city}", "the letter is about the {building}"),
}
"""Phrasings that only the test has. Each of their words is in some phrasing of the training."""

OPENINGS = ("i think ", "please note that ", "we were told that ", "yes ", "so ", "as i said ")
CLOSINGS = (" thank you", " as usual", " if possible", " i hope", " in any case")
_NO_STATEMENT = ("please", "call", "is", "turn", "add", "keep", "divide", "read", "type", "if", "send", "where")

_SLOT = re.compile(r"\{(\w+)\}")
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


def make_example(random: Random, carriers: dict[str, tuple[str, ...]], *, test: bool) -> Example:
    """One sentence pair. In the test every composed value is a held-out one; elsewhere none is."""
    carrier = random.choice(carriers[random.choice(list(carriers))])
    values: list[tuple[str, Value]] = []

    def fill(match: re.Match[str]) -> str:
        kind = match.group(1)
        if kind in FILLERS:
            value = FILLERS[kind](random)
        else:
            value = NUMERIC[kind](random)
            while is_composed(value) and is_held_out(kind, value) != test:
                value = NUMERIC[kind](random)
            values.append((kind, value))
        filled.append(value)
        return value.spoken

    filled: list[Value] = []
    spoken = _SLOT.sub(fill, carrier)
    written_values = iter(filled)
    written = _SLOT.sub(lambda _: next(written_values).written, carrier)
    statement = carrier.split()[0] not in _NO_STATEMENT
    opening = random.choice(OPENINGS) if statement and random.random() < 0.5 else ""
    closing = random.choice(CLOSINGS if statement else CLOSINGS[:1]) if random.random() < 0.4 else ""
    return Example(f"{opening}{spoken}{closing}", f"{opening}{written}{closing}", carrier, tuple(values))


def make_corpus(seed: int, sizes: dict[str, int]) -> dict[str, list[Example]]:
    """All splits; no spoken sentence occurs twice, in one split or in two."""
    seen: set[str] = set()

    def split(name: str, size: int) -> Iterator[Example]:
        random = Random(f"{seed} {name}")
        carriers = HELD_OUT_CARRIERS if name == "test" else CARRIERS
        while size:
            example = make_example(random, carriers, test=name == "test")
            if example.spoken not in seen:
                seen.add(example.spoken)
                size -= 1
                yield example

    return {name: list(split(name, size)) for name, size in sizes.items()}


def main(argv: list[str] | None = None) -> int:
    """Write the corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="corpus", help="folder to write (default: corpus)")
    parser.add_argument("--seed", type=int, default=1, help="another seed gives other sentences (default: 1)")
    for name, size in (("train", 18_000), ("valid", 1_000), ("test", 1_000)):
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
