"""Lazy sequences and mappings: made once, when looked at, and plain in copies; what is remembered with a network."""

import copy
import gc
import pickle
import weakref

from picojoule.sim.by_network import remembered
from picojoule.sim.ir import Network
from picojoule.sim.lazy import LazyMapping, LazySequence


def test_a_sequence_is_made_once_and_only_when_looked_at():
    calls = []
    lazy = LazySequence(2, lambda: calls.append(1) or ("a", "b"))
    assert len(lazy) == 2 and not calls
    assert (lazy[1], lazy[:1], list(lazy), "b" in lazy) == ("b", ("a",), ["a", "b"], True)
    assert calls == [1]
    assert lazy == ("a", "b") and lazy != ("a",) and lazy == LazySequence(2, lambda: ("a", "b"))
    assert repr(lazy) == "('a', 'b')" and hash(lazy) == hash(("a", "b"))
    for copied in (copy.deepcopy(lazy), pickle.loads(pickle.dumps(lazy))):
        assert copied == ("a", "b") and type(copied) is tuple


def test_a_mapping_makes_what_waits_once_and_keeps_its_order():
    calls = []
    lazy = LazyMapping({"a": 1}, {"b": lambda: calls.append(1) or 2})
    assert list(lazy) == ["a", "b"] and len(lazy) == 2 and lazy["a"] == 1 and not calls
    assert lazy["b"] == lazy["b"] == 2 and calls == [1]
    assert lazy == {"a": 1, "b": 2} and {**lazy} == dict(lazy) and repr(lazy) == "{'a': 1, 'b': 2}"
    for copied in (copy.deepcopy(lazy), pickle.loads(pickle.dumps(lazy))):
        assert copied == {"a": 1, "b": 2} and type(copied) is dict


def test_what_is_remembered_belongs_to_one_network_object_and_goes_with_it():
    one, twin = (Network(name="n", inputs=(), outputs=(), layers=()) for _ in range(2))
    assert one == twin
    made = [remembered(network, "key", object) for network in (one, one, twin)]
    assert made[0] is made[1] is not made[2]
    assert remembered(one, "other key", object) is not made[0]
    kept = type("Kept", (), {})()
    gone = weakref.ref(kept)
    remembered(one, "weak", [kept].pop)
    kept = None
    assert gone() is not None
    one = None
    gc.collect()
    assert gone() is None
    assert remembered(twin, "key", object) is made[2]
