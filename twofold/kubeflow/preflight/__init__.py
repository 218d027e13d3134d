"""Checks of a server, cluster, secrets and images before a run costs anything."""
