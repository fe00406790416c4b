"""What the folder of a bundle holds, for those who look into one without opening the model."""

FORMAT = "morphogen-bundle"
VERSION = 2  # 2: conditions are read by codecs of their own
MODEL, CODEC, SCHEDULE = "model.safetensors", "codec.safetensors", "schedule.safetensors"
# Of the training that it comes from:
CHECKPOINTS, CHAIN = "checkpoint", "chain.json"  # while there is more to do; what a chain is of
