"""`python -m twofold.cli`, which old commits and new ones are reproduced by."""

from twofold.cli.main import main

if __name__ == "__main__":
    main()
