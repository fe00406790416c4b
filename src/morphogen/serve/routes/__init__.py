"""The parts of the API, a file each. Each holds a `router`."""
