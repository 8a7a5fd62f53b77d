"""The fifteen common corruptions of ImageNet-C (Hendrycks and Dietterich, 1903.12261), made on the fly."""
