"""Systems built on models: written against what models can do, not against any one of them."""
