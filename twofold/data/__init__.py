"""Images and their artifacts: a source in, `data/raw` and `data/prepared` out."""
