"""One module for each step of the schema, upwards and downwards."""
