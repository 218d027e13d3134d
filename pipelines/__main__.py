"""`python -m pipelines`, the same command as `twofold-pipelines`."""

from twofold.cli.kfp.command import main

if __name__ == "__main__":
    main()
