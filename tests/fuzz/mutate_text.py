"""Damage to values written as text (YAML, JSON, CSV): wrong types, huge numbers, repeated keys, bombs, tags that name code."""

import copy
import json
import random
from pathlib import Path
from typing import Any

from .mutate_bytes import HOSTILE_INTS, damaged

MARKER = "EXECUTED"
"""A file of this name appears in the case's folder if code in a specimen runs."""


class Raw(str):
    """Text that is written as it is, where a value stands."""


NUMBERS = (
    *map(
        Raw,
        ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", ".inf", "-.inf", ".nan", "1e-400", "1e308", "-0", "-0.0"),
    ),
    *map(
        Raw,
        (
            "9" * 30,
            "9" * 400,
            "9" * 5000,
            "1" + "0" * 4400,
            "0x" + "f" * 4000,
            "1_000",
            "0o17",
            "010",
            "1:30",
            "+1",
            "1.5e3",
            "--1",
            "1.2.3",
        ),
    ),
    *HOSTILE_INTS,
    *(0.5, -0.5, 1e-12, 1e18, 3.5),
)
WORDS = (
    *(
        "",
        " ",
        "x",
        "nan",
        "inf",
        "true",
        "null",
        "~",
        "on",
        "int8",
        "int99",
        "2:4",
        "0:0",
        "9:3",
        "block0x0",
        "dense",
        "int-1",
    ),
    *(
        "..",
        "../../x.yaml",
        "C:\\x",
        "line\nbreak",
        "\x1b[2J",
        "\x00",
        "\u202e",
        "\ud800",
        "é" * 40,
        "a" * 5000,
        "%s%n{0}",
        "*",
        "[!",
        "**" * 50,
    ),
    *(
        "isaac",
        "edge-16x16",
        "reram",
        "systolic",
        "specimen.yaml",
        "os",
        "fixed",
        "2001-01-01",
        "!!str",
        "layer.0",
        "__class__",
    ),
)
TREES = (
    *([], {}, [[]], [{}], {"": ""}, [None], None, True, False, [1, [2, [3]]], {"a": {"b": {"c": 1}}}, list(range(300))),
    *map(
        Raw,
        (
            "[" * 30 + "]" * 30,
            "[" * 3000,
            "[" * 100_000 + "]" * 100_000,
            '{"a":' * 60 + "1" + "}" * 60,
            '{"a":' * 50_000 + "1" + "}" * 50_000,
        ),
    ),
    *map(
        Raw,
        (
            "[" + "1," * 20_000 + "1]",
            "[" + "[]," * 20_000 + "[]]",
            '{"k": 1, "k": 2}',
            "[1, 2",
            '"open',
            "{1: 2}",
            "{[1]: 2}",
        ),
    ),
)
_LAUGHS = "\n".join(["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))])
SNIPPETS = (
    f"!!python/object/apply:os.system ['touch {MARKER}']",
    f"!!python/object/new:os.system ['touch {MARKER}']",
    f"!!python/object/apply:builtins.exec [\"open('{MARKER}', 'w')\"]",
    f"!!python/object/apply:subprocess.Popen [[touch, {MARKER}]]",
    *(
        "!!python/name:os.system",
        "!!binary aGVsbG8=",
        "!!set {a, b}",
        "!!timestamp 2001-01-01",
        "!!omap [a: 1]",
        "!custom x",
        "!<x> y",
    ),
    *(
        "&a [*a]",
        "&a {k: *a}",
        "{<<: {a: 1}}",
        "{<<: [*b]}",
        "? [a, b]\n: c",
        "*undefined",
        "&x 1",
        "|\n  text",
        ">-\n  text",
        "- a\n- b",
    ),
    *(
        "%YAML 9.9\n---\n",
        "---\n...\n---\n",
        "--- a\n--- b\n",
        "\ufeff",
        "\t",
        "@",
        "`",
        "{",
        "}",
        "[",
        ":",
        "- ",
        "# comment",
        "\x00",
        "\x85",
        "\u2028",
    ),
    _LAUGHS,
)
"""What only YAML has; in other formats it is foreign text."""


def mutated(rng: random.Random, tree: Any) -> Any:
    """Return a copy of nested dicts (as lists of pairs, so that keys may repeat) and lists with some places changed."""
    tree = _pairs(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        tree = _changed(rng, tree)
    return tree


class Pairs(list[tuple[Any, Any]]):
    """A mapping as it is written: keys in order, perhaps repeated."""


def _pairs(value: Any) -> Any:
    if isinstance(value, dict):
        return Pairs((k, _pairs(v)) for k, v in value.items())
    return [_pairs(v) for v in value] if isinstance(value, list | tuple) else value


def _changed(rng: random.Random, value: Any) -> Any:
    """Walk down at random and change one place."""
    if not isinstance(value, list) or not value or rng.random() < 0.12:
        return _hostile(rng, value)
    i = rng.randrange(len(value))
    deeper = rng.random() < 0.7
    if isinstance(value, Pairs):
        key, inner = value[i]
        choice = rng.random()
        if deeper:
            value[i] = (key, _changed(rng, inner))
        elif choice < 0.3:
            del value[i]
        elif choice < 0.5:
            value.insert(rng.randrange(len(value) + 1), (key, _hostile(rng, inner)))
        elif choice < 0.75:
            value[i] = (_key(rng, key), inner)
        else:
            value.append((_key(rng, key), _hostile(rng, inner)))
        return value
    if deeper:
        value[i] = _changed(rng, value[i])
    elif rng.random() < 0.5:
        del value[i]
    else:
        value.insert(i, _hostile(rng, value[i]))
    return value


def _hostile(rng: random.Random, value: Any) -> Any:
    kind = rng.random()
    if kind < 0.2:
        return _near(rng, value)
    if kind < 0.45:
        return rng.choice(NUMBERS)
    if kind < 0.65:
        return rng.choice(WORDS)
    if kind < 0.85:
        return copy.deepcopy(rng.choice(TREES))
    if kind < 0.92:
        return Raw(rng.choice(SNIPPETS))
    return [value] if rng.random() < 0.5 else Pairs([(rng.choice(WORDS), value)])


def _near(rng: random.Random, value: Any) -> Any:
    """Return a value of the same kind: such a file is read further than one with a word for a number."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return rng.choice((value + 1, value - 1, 2 * value, 1000 * value, -value, 0, float(value)))
    if isinstance(value, str):
        return rng.choice((value[1:], value + value[-1:], value.upper(), f" {value}", value[::-1]))
    if isinstance(value, list) and not isinstance(value, Pairs):
        return copy.deepcopy(rng.choice((value[1:], value + value[-1:], value[::-1], [value], value * 2)))
    return value


def _key(rng: random.Random, key: Any) -> Any:
    if rng.random() < 0.5 and str(key):
        letters = list(str(key))
        letters[rng.randrange(len(letters))] = rng.choice("aeo_.x \n")
        return "".join(letters)
    return rng.choice((*WORDS, *NUMBERS))


def as_json(value: Any) -> str:
    """Return JSON text (flow style of YAML too), `Raw` text as it stands."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs | dict):
        pairs = value.items() if isinstance(value, dict) else value
        return (
            "{" + ", ".join(f"{k if isinstance(k, Raw) else json.dumps(str(k))}: {as_json(v)}" for k, v in pairs) + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(as_json, value)) + "]"
    return json.dumps(value)


def as_yaml(value: Any, indent: int = 0) -> str:
    """Return block-style YAML text for mappings, flow style below."""
    if not isinstance(value, Pairs) or not value or indent > 3:
        return as_json(value) + "\n"
    lines = []
    for key, inner in value:
        text = as_yaml(inner, indent + 1)
        name = key if isinstance(key, Raw) else json.dumps(str(key))
        nested = isinstance(inner, Pairs) and inner and indent < 3
        lines.append(f"{'  ' * indent}{name}:" + (f"\n{text}" if nested else f" {text}"))
    return "".join(lines)


def spoiled(rng: random.Random, text: str) -> str:
    """Return text with a snippet of YAML's special powers, or a stray character, somewhere between its words."""
    places = [i for i, c in enumerate(text) if c in " \n,:[]{}"] or [0]
    at = rng.choice(places)
    end = rng.choice([p for p in places if p >= at]) if rng.random() < 0.3 else at
    return text[:at] + rng.choice(SNIPPETS) + text[end:]


def encoded(rng: random.Random, text: str) -> bytes:
    """Return the text as bytes; now and then in a foreign encoding."""
    if rng.random() < 0.03:
        return text.encode(rng.choice(("utf-16", "utf-32", "latin-1", "utf-8-sig")), errors="replace")
    return text.encode(errors="surrogatepass")


def write_tree(rng: random.Random, path: Path, tree: Any, *, yaml: bool) -> str:
    """Write values as text with damage to the values, the text or the bytes."""
    kind = rng.random()
    if kind < 0.15:
        path.write_bytes(damaged(rng, json.dumps(tree).encode()))
        return "bytes"
    if kind < 0.2:
        path.write_text(rng.choice(_BULK)())
        return "bulk"
    value = mutated(rng, tree) if kind < 0.75 else Pairs((k, v) for k, v in tree.items())
    text = as_yaml(value) if yaml and rng.random() < 0.6 else as_json(value)
    if kind >= 0.75 or rng.random() < 0.1:
        text = spoiled(rng, text)
    path.write_bytes(encoded(rng, text))
    return "values" if kind < 0.75 else "snippet"


_BULK = (
    lambda: "[" * 500_000,
    lambda: "{" * 200_000,
    lambda: "- " * 200_000,
    lambda: '{"a":' * 200_000,
    lambda: "a: [" + "1," * 400_000 + "1]",
    lambda: "".join(f"k{i}: 1\n" for i in range(80_000)),
    lambda: "a: '" + "x" * 900_000 + "'",
    lambda: '{"layers": [' + "{}," * 200_000 + "{}]}",
    lambda: "a: " + "9" * 900_000,
    lambda: "#" * 900_000,
    lambda: "a: &x " * 100_000,
    lambda: "? " * 100_000,
    lambda: "\n" * 900_000,
    lambda: '"' + "\\u0041" * 150_000 + '"',
    lambda: "",
    lambda: " ",
    lambda: "null",
    lambda: "[1, 2, 3]",
)
