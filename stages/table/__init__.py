"""The table and its dictionary: what a column is, what a good row is, and how rows become numbers."""
