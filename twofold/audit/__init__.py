"""Data audits: checks records and pixels of images, reports issues, and excludes images by policy."""
