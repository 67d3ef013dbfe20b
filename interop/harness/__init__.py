"""What `interop/run` does: install clients, start a broker for each, run their checks, write the table."""
