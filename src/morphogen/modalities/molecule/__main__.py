"""A program that looks at molecules: questions come as lines of JSON, see `core.programs`."""

from morphogen.core.programs import serve
from morphogen.modalities.molecule.worker import look

if __name__ == "__main__":
    serve(look)
