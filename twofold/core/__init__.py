"""What every other wing stands on: errors, atomic files and digests, progress, typed parameters, code digests."""
