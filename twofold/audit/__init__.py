"""Data audits: records and pixels of images in; issues, and what is to be left out, out."""
