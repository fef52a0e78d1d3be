"""The seeded simulator: production code of all services on a virtual clock, with faults, judged by the audit."""
