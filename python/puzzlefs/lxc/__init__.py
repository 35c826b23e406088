"""LXC: the template that makes containers of images, the configuration they get, and where it is installed."""
