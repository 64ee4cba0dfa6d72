"""The backends: one room each, none knows another."""
