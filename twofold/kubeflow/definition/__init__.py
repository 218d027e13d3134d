"""The pipeline as data: images, resources and parameters in, compiled YAML out."""
