"""What this package gives to test suites: builders, conformance suites, faults, a pytest plugin."""
