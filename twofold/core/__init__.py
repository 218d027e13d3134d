"""Base for all other wings: errors, atomic files and digests, progress, typed parameters, code digests."""
