"""Sphinx builds the site from the Markdown files of this folder: `make docs`, without network access."""

from importlib.metadata import version as installed

project = "Twofold"
author = "the Twofold maintainers"
project_copyright = "the Twofold maintainers"
version = release = installed("twofold")
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3  # `page.md#heading`, as on a forge
html_theme = "furo"
html_title = f"Twofold {version}"
smartquotes = False  # `--help` stays as it is
html_show_sphinx = False
