"""The embedded people: drawn on the spot, in both spectra."""
