"""From any format to a store of series."""
