"""What the attacks ask for: a worker's surroundings with a scripted model, and a whole gateway."""

from tests.flows.conftest import _scripted_model, model, shop
from tests.web.conftest import gateway

__all__ = ["_scripted_model", "gateway", "model", "shop"]
