"""Writes the bodies of the cases into the corpora of the fuzz targets `observers` and `sse`, in the targets' own formats.

usage: tests/cases/seeds.py      run it when a case was added; what is there already stays
"""
import hashlib, pathlib, re, sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))
from harness import load, request_body, unframe

CORPUS = HERE.parent.parent / 'fuzz' / 'corpus'
# The low bits of the first steering byte of an exchange, by the type of the response (crates/core/src/correlator/invariants.rs).
KINDS = {b'application/json': 0, b'text/event-stream': 1, b'': 2}
MAX_BYTES = 16384


def write(target, seed):
    if len(seed) <= MAX_BYTES:
        (CORPUS / target / hashlib.sha1(seed).hexdigest()).write_bytes(seed)


for file in sorted((HERE / 'cases').glob('*.py')):
    case = load(file)
    head, body, _ = unframe(b''.join(piece for piece in case.ANSWER if isinstance(piece, bytes)))
    declared = re.search(rb'(?im)^content-type: *([^;\r]*)', head)
    kind = KINDS.get(declared.group(1) if declared else b'', 6)
    request = f"{case.REQUEST.get('method', 'POST')} {case.REQUEST['path']}".encode()
    fields = [bytes([kind, 0, 0, 0]), request, b'content-type: application/json', request_body(case), body]
    if not any(byte in field for byte in (b'\xfe', b'\xff') for field in fields):
        write('observers', b'\0' + b'\xfe'.join(fields) + b'\xff')
    if kind != 0:
        write('sse', b'\1' + body)
