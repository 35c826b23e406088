"""Running images: bundles for container runtimes, and containers from them."""
