"""What tests of every layer share."""
