"""A compact UniZero on Gymnasium: a world model with KV caches, a batched tree search, and what trains them."""

from shadow.hosts.unizero.collector import VectorStep
from shadow.hosts.unizero.config import TrainConfig, WorldModelConfig, load_config
from shadow.hosts.unizero.train import Progress, TrainResult, train

__all__ = ["Progress", "TrainConfig", "TrainResult", "VectorStep", "WorldModelConfig", "load_config", "train"]
