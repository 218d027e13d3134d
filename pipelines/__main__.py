"""`python -m pipelines`, the same command as `twofold kfp`."""

from twofold.cli.main import kfp_main

if __name__ == "__main__":
    kfp_main()
