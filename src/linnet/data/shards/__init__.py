"""Documents as tokens on disk: built whole beforehand, or made just in time ahead of the reader."""
