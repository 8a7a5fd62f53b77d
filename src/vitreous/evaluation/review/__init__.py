"""Problems in labelled images: near-duplicates, wrong labels, outliers, images that show nothing."""
