"""`twofold init` and `twofold upgrade`: a project of one's own, which gets the engine as a package."""
