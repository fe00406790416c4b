"""The contract: specs, likelihoods, capabilities, families, codecs, discovery, recipes, bundles."""
