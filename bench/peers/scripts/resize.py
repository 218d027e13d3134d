"""Script 2 of 6: convert every image to RGB, resize it and save it as PNG. `resize SOURCE OUT SIZE`."""

import sys
from pathlib import Path

from PIL import Image

source, out, size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
for path in sorted(source.rglob("*.png")):
    to = out / path.relative_to(source)
    to.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(path) as image:
        image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR).save(to)
