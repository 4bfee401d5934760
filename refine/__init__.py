"""Acts on critiques: produces candidates and mends them."""
