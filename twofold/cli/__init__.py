"""The command `twofold`: reads a command line, prints text and returns an exit status."""
