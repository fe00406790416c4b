"""`python -m morphogen.serve.worker '{"path": "models/base", ..}'`."""

import importlib
import json
import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
    told = json.loads(sys.argv[1])
    kind = told["kind"] if told["kind"] in ("index", "agent") else "model"
    importlib.import_module(f"morphogen.serve.worker.{kind}").serve(told)
