"""Run `python -m twofold.cli`, the command by which old and new commits are reproduced."""

from twofold.cli.main import main

if __name__ == "__main__":
    main()
