"""The transport port: one suite, three implementations, the same tests for each."""
