import json
import re
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError, field_validator

from picojoule.sim.errors import InputError
from picojoule.sim.specs import Spec, parse_spec, parse_yaml, read_yaml_mapping


class Wire(Spec):
    ohm: float = Field(ge=0)
    length_um: float | tuple[float, ...] | None = None


class Tile(Spec):
    rows: int = Field(ge=1, le=128)
    kind: Literal["a", "b"] = "a"
    wire: Wire | None = None
    wires: tuple[Wire, ...] = ()
    named: dict[str, Annotated[Wire, Field(description="x")]] = Field(default_factory=dict)
    schema_version: int = Field(default=1, alias="schema")

    @field_validator("kind")
    @classmethod
    def _not_b(cls, value: str) -> str:
        if value == "b":
            raise ValueError("B is broken, got rid of it")
        return value


def refuses(message: str):
    return pytest.raises(InputError, match=f"^{re.escape(message)}$")


# --- specs ------------------------------------------------------------------------------------------------------------


def test_a_spec_is_frozen_and_strict() -> None:
    made = parse_spec(Tile, {"rows": 4, "wire": {"ohm": 1}}, "t.yaml")
    assert made.wire == Wire(ohm=1.0)
    with pytest.raises(ValidationError):
        made.rows = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "key 'rows' is missing"),
        ({"rows": 0}, "rows must be at least 1, got 0"),
        ({"rows": 129}, "rows must be at most 128, got 129"),
        ({"rows": "4"}, "rows must be a valid integer, got '4'"),
        ({"rows": True}, "rows must be a valid integer, got True"),
        ({"rows": 4.0}, "rows must be a valid integer, got 4.0"),
        ({"rows": [4]}, "rows must be a valid integer, got list"),
        ({"rows": 4, "kind": "c"}, "kind must be 'a' or 'b', got 'c'"),
        ({"rows": 4, "kind": "b"}, "kind is refused: b is broken, got rid of it"),
        ({"rows": 4, "cols": 4}, "unknown key 'cols'; did you mean 'rows'?"),
        ({"row": 4}, "unknown key 'row'; did you mean 'rows'? (and 1 more)"),
        ({"rows": 4, "shcema": 1}, "unknown key 'shcema'; did you mean 'schema'?"),
        ({"rows": 4, "wire": {"ohms": 1}}, "unknown key 'wire.ohms'; did you mean 'ohm'? (and 1 more)"),
        ({"rows": 4, "wire": {"ohm": float("nan")}}, "wire.ohm must be a finite number, got nan"),
        ({"rows": 4, "wire": {"ohm": float("inf")}}, "wire.ohm must be a finite number, got inf"),
        ({"rows": 4, "wire": {"ohm": -1.0}}, "wire.ohm must be at least 0, got -1.0"),
        ({"rows": 4, "wire": {"ohm": 1.0, "length_um": "x"}}, "wire.length_um must be a valid number, got 'x'"),
        ({"rows": 4, "wires": ({"ohm": 1.0}, {"omh": 1.0})}, "unknown key 'wires.1.omh'; did you mean 'ohm'? (and 1 more)"),
        ({"rows": 4, "named": {"x": {"hm": 1}}}, "unknown key 'named.x.hm'; did you mean 'ohm'? (and 1 more)"),
        ({"rows": 4, "named": {"x": {}}}, "key 'named.x.ohm' is missing"),
    ],
)  # fmt: skip
def test_one_sentence_per_mistake(data: dict[str, object], message: str) -> None:
    with refuses(f"t.yaml: {message}"):
        parse_spec(Tile, data, "t.yaml")


# --- YAML -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-3", -3), ("+3", 3), ("0", 0), ("1_000", 1000), ("0x1F", 31),
        ("1e6", 1e6), ("1E6", 1e6), ("1e-3", 1e-3), ("-2.5e+3", -2500.0), ("1.5", 1.5), (".5", 0.5), ("5.", 5.0),
        ("true", True), ("false", False), ("null", None), ("~", None), ("", None),
        ("010", "010"), ("1:30", "1:30"), ("2:4", "2:4"), ("2024-01-01", "2024-01-01"), ("e6", "e6"), ("1e", "1e"),
        ("'1e6'", "1e6"), ("-", [None]), ("+", "+"), (".", "."), ("1.2.3", "1.2.3"), ("=", "="), ("<<", "<<"),
    ],
)  # fmt: skip
def test_scalars_mean_what_people_mean(text: str, value: object) -> None:
    read = parse_yaml(text, "here")
    assert read == value and type(read) is type(value)


def test_infinities_are_read_so_that_specs_can_refuse_them() -> None:
    assert parse_yaml(".inf", "x") == float("inf") == -parse_yaml("-.inf", "x")
    assert parse_yaml(".nan", "x") != parse_yaml(".nan", "x")


def _no_number(text: str) -> bool:
    """Whether PyYAML quotes text that is a number here: 1e6 is none in YAML 1.1, so it would not; we write no such text."""
    return re.fullmatch(r"[0-9_]+[eE][-+]?[0-9]+", text) is None


words = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), max_size=8).filter(_no_number)
real_numbers = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | real_numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words.filter(bool), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60)
@given(value=plain)
def test_what_we_write_is_read_back(value: object) -> None:
    """Run folders and plans are written with PyYAML's safe_dump."""
    written = yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False)  # a copy: the same list twice is an alias
    assert repr(parse_yaml(written, "x")) == repr(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1\nb: *x\n", "f.yaml:2:4: not valid YAML: aliases (*name) are not accepted here"),
        ("a: 1\na: 2\n", "f.yaml:2:1: not valid YAML: key 'a' appears twice"),
        ("a: {b: 1, b: 2}\n", "f.yaml:1:11: not valid YAML: key 'b' appears twice"),
        ("a: !!python/object:builtins.object {}\n",
         "f.yaml:1:4: not valid YAML: tags such as !!python/object:builtins.object are not accepted here"),
        ("a: !!python/object/apply:os.system ['true']\n",
         "f.yaml:1:4: not valid YAML: tags such as !!python/object/apply:os.system are not accepted here"),
        ("a: [1\n", "f.yaml:2:1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: b: c\n", "f.yaml:1:5: not valid YAML: mapping values are not allowed here"),
        ("a:\t1\n\tb: 2\n", "f.yaml:1:3: not valid YAML: found character '\\t' that cannot start any token"),
        ("[a]: 1\n", "f.yaml:1:1: not valid YAML: a key must be plain text"),
        ("--- 1\n--- 2\n", "f.yaml:2:1: not valid YAML: expected a single document in the stream, but found another document"),
        ("a: " + "{b: " * 30 + "1" + "}" * 30, "f.yaml:1:77: not valid YAML: nested deeper than 20 levels"),
        ("a: \x01\n", "f.yaml: not valid YAML: unacceptable character #x0001: special characters are not allowed"),
    ],
)  # fmt: skip
def test_hostile_yaml(text: str, message: str) -> None:
    with refuses(message):
        parse_yaml(text, "f.yaml")


def test_very_deep_yaml_is_refused_quickly() -> None:
    with refuses("f.yaml:1:21: not valid YAML: nested deeper than 20 levels"):
        parse_yaml("[" * 100_000, "f.yaml")


def test_mapping_files(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\n")
    assert read_yaml_mapping(path, "a plan") == {"a": 1}
    for text in ("- 1\n", "text\n", "# nothing\n", "1: 2\n", "null: 2\n"):
        path.write_text(text)
        with refuses(f"{path}: expected a plan: a mapping of keys to values"):
            read_yaml_mapping(path, "a plan")
    path.write_bytes(b"a: \xff\n")
    with refuses(f"{path}: not UTF-8 text at byte 3; expected a plan"):
        read_yaml_mapping(path, "a plan")
