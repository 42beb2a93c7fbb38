"""What can go wrong for a user, one class per exit code of the command line."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from picojoule.sim.ir import Network

LONGEST_SENTENCE = 2000
"""Characters of a message; a damaged file can put a megabyte where a name should be."""


def printable(text: str) -> str:
    """Return text without control characters (a layer's name may hold a terminal's escape codes), spelt out instead."""
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def one_sentence(text: str) -> str:
    """Return text on one line and of bounded length, whatever the file it speaks of holds; the middle goes first."""
    return _shortened(printable(" ".join(line.strip() for line in _shortened(text).splitlines())))


def _shortened(text: str) -> str:
    head, tail = LONGEST_SENTENCE - 600, 500
    if len(text) <= LONGEST_SENTENCE:
        return text
    return f"{text[:head]} ... ({len(text) - head - tail} characters) ... {text[-tail:]}"


class PicojouleError(Exception):
    """Any failure a user can cause; its text is one sentence: what, where, the rule, the remedy.

    The sentence is made printable, one line and at most `LONGEST_SENTENCE` characters long here, once for all: names in
    files are whatever somebody wrote into them.
    """

    exit_code = 1

    def __init__(self, sentence: object) -> None:
        super().__init__(one_sentence(str(sentence)))


class InputError(PicojouleError, ValueError):
    """Something given to us is wrong: a file, a key, a size, a number (exit code 2)."""

    exit_code = 2


class UnsupportedError(PicojouleError):
    """Right input that we cannot price or run, such as an unknown operator (exit code 3).

    `partial` is what an importer understood before it gave up, where that can be shown (`picojoule coverage` does).
    """

    exit_code = 3
    partial: "Network | None" = None


class InfeasibleError(PicojouleError):
    """A valid design that cannot hold this network (exit code 4)."""

    exit_code = 4


def nearest(word: str, choices: "list[str] | tuple[str, ...]") -> str:
    """Return `; did you mean 'x'?` for the closest of `choices`, or an empty string."""
    import difflib

    found = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"; did you mean '{found[0]}'?" if found else ""


def unknown_choice(what: str, word: str, choices: "list[str] | tuple[str, ...]") -> str:
    """Return the sentence for a word outside a fixed set, with the nearest match and all choices."""
    listed = ", ".join(f"'{c}'" for c in sorted(choices))
    return f"unknown {what} '{word}'{nearest(word, choices)} (choose from {listed})"
