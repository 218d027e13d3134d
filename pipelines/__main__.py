"""`python -m pipelines`: what `twofold-pipelines` is."""

from twofold.cli.kfp.command import main

if __name__ == "__main__":
    main()
