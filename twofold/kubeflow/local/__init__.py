"""The pipeline on this machine by `kfp.local`, in processes or in containers."""
