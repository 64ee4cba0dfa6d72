"""What this library costs, beside the drivers underneath it and the libraries beside it."""
