"""What can go wrong for a user, one class per exit code of the command line."""


class PicojouleError(Exception):
    """Any failure a user can cause; its text is one sentence: what, where, the rule, the remedy."""

    exit_code = 1


class InputError(PicojouleError, ValueError):
    """Something given to us is wrong: a file, a key, a size, a number (exit code 2)."""

    exit_code = 2


class UnsupportedError(PicojouleError):
    """Right input that we cannot price or run, such as an unknown operator (exit code 3)."""

    exit_code = 3


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
