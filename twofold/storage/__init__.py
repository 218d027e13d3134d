"""The S3 client and the content-addressed cache: keys and bytes in, the same bytes, whole, out."""
