"""Images and their artifacts: decodes a source's images and writes `data/raw` and `data/prepared`."""
