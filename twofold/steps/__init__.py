"""The six steps, one file each: paths and one section of params.yaml in, one artifact out."""
