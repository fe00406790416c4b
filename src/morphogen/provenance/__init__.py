"""Where what a model made comes from: signed statements, and marks within the items themselves.

    identity      the key that this installation signs with, its certificate, whom it trusts
    credentials   C2PA manifests inside files of formats that have a place for them
    beside        signed side-cars of all other files
    signing       which of both a file gets: what `Result.save` calls
    said          whether bytes say of themselves that a model made them: no key, no library
    phases        keyed patterns in a spectrum, and how surely one is found
    token_mark    a keyed choice among the probable words

No modality is known here: pictures and sounds bring their own marks (`CanWatermark`).
"""
