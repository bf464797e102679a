"""`python -m hansa.cli`."""

from hansa.cli import main

main()
