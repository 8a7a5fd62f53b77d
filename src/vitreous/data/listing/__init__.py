"""From a folder or a manifest to a listing of examples: layouts, scan, split."""
