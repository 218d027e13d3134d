"""Image sources (a local folder, S3, a DVC repository): listed by address, then read file by file."""
