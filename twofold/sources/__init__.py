"""Where images come from (a folder, S3, DVC): an address in, a listing and bytes out."""
