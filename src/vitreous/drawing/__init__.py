"""Charts, heat maps and images for pages, and the HTML that holds them."""
