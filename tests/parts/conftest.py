"""The folder ``mine`` holds parts as users write them: one file each, outside of the package."""
