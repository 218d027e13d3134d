"""Runs steps from params.yaml, a command line or a pod, and reports what they and their environment came to."""
