"""`python -m morphogen.serve.worker '{"path": "models/base", ..}'`."""

import json
import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
    from morphogen.serve.worker.model import serve

    serve(json.loads(sys.argv[1]))
