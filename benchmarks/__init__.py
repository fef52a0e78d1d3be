"""How fast it is: figures beside a floor, taken in one run. `python -m benchmarks --help`."""
