"""What a service's tests import, under the rules of the front door (`orderflow`)."""

from orderflow.core.telemetry import Outcome
from orderflow.core.testing.bench import Bench, Reaction

__all__ = ["Bench", "Outcome", "Reaction"]
