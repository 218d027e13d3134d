"""The S3 client, and the content-addressed cache, which verifies the checksum of every value that it returns."""
