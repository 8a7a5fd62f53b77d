"""What a model goes by, on images of one's own: arrays, overlays, and a page to move about on."""
