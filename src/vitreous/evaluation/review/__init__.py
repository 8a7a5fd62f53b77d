"""What may be wrong with labelled images: near-duplicates, labels, outliers, images that show nothing."""
