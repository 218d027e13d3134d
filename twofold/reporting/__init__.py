"""Pages, charts, tables and the model card: results in, HTML, Markdown, SVG and CSV for people out."""
