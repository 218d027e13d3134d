"""The command `twofold`: words of a command line in, text and an exit status out."""
