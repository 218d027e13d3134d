"""From results to HTML pages, Markdown, charts and CSV files for people; decides nothing."""
