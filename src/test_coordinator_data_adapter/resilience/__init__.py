"""What surrounds any trip to a backend: when to try again, how to travel together, how to watch."""
