"""A PDF written by hand, for documents that are made up."""

from __future__ import annotations

from collections.abc import Sequence


def pdf_of(contents: Sequence[str]) -> bytes:
    """Pages with these content streams, in ASCII, in which /F1 is Helvetica."""
    kids = " ".join(f"{3 + 2 * i} 0 R" for i in range(len(contents)))
    bodies = ["<< /Type /Catalog /Pages 2 0 R >>",
              f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>"]  # fmt: skip
    font = "<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
    for i, stream in enumerate(contents):
        bodies.append(f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources {font} "
                      f"/Contents {4 + 2 * i} 0 R >>")  # fmt: skip
        bodies.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(bodies, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(bodies) + 1}\n0000000000 65535 f \n{table}"
    end += f"trailer << /Size {len(bodies) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF"
    return out + end.encode()
