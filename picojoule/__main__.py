"""`python -m picojoule`."""

from picojoule.cli import main

main()
