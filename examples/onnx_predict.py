"""Prints label, probability and path of image files, with a model that `twofold export onnx` has written.

python onnx_predict.py model.onnx IMAGE…   for 8-bit images; requires only onnxruntime, numpy and Pillow.
"""

import json
import math
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
pixels, (negative, positive) = json.loads(about["preprocessing"]), json.loads(about["labels"])
if pixels["fit"] != "squash":
    sys.exit("this example supports only fit: squash; for crop and pad see twofold/data/decoding.py")
for path in sys.argv[2:]:
    image, side = Image.open(path), pixels["image_size"]
    ample = math.ceil(pixels["jpeg_ample"] * side)
    drafted = image.draft(None, (ample, ample)) if image.format == "JPEG" and ample else None
    box = drafted[1] if drafted and image.getexif().get(274, 1) == 1 else None
    image = ImageOps.exif_transpose(image).convert("RGB")
    image = image.resize((side, side), Image.Resampling[pixels["filter"].upper()], box, reducing_gap=3.0)
    (probability,) = session.run(None, {"pixels": np.asarray(image)[None]})[0]
    label = positive if probability >= float(about["threshold"]) else negative
    print(f"{label}\t{probability:.6f}\t{path}")
