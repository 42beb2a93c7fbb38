"""Hostile input, seeded: every way a file enters, attacked with damaged and malicious files.

`corpus_*` make sound files, `mutate_*` damage them, `readers` joins both to the entry points, `worker` runs cases under limits
of time and memory, `campaign` starts workers and counts. `scripts/fuzz` is the command, `test_fuzz.py` the tests.
"""
