#!/usr/bin/env python3
"""Resident memory of an idle service, for each encoder: after its start, and after requests.

    export.py ENCODERS minilm-int8 lite0
    idle_memory.py PROGRAM ENCODERS [--encoder NAME]... [--requests N] [--other PROGRAM]

PROGRAM is a build of perennial with the feature onnx. Imports each encoder into a registry of its own and serves it over an empty gallery. Read from
/proc (Linux) 20 seconds after the service is ready, and after the last of N searches, in MB of 1,000,000 bytes: the memory that is
resident, how much of that is the program's file (code and constants, shared by all processes that run it), how much is not, and the most there ever was.
A search waits for the answer of the one before; the time is its median. `--other` measures another build in turn, for ratios within one run. The last
line is a service whose encoder is a table of 18 vectors: what a service takes without a model. Needs numpy, safetensors, and Pillow for pictures.
"""

import argparse
import base64
import io
import json
import os
import statistics
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

TEXT = "A heron stands at the edge of the water, where the reeds are cut, and waits for what the evening brings. "
IDLE = 20  # seconds: threads that loaded an encoder end ten seconds after their last work
TESTDATA = Path(__file__).resolve().parent.parent.parent / "crates/perennial-encode/testdata"


def table(folder):
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir()
    save_file({"table": np.random.default_rng(0).standard_normal((18, 8)).astype(np.float32)}, folder / "table.safetensors")
    (folder / "tokenizer.json").write_bytes((TESTDATA / "tokenizer.json").read_bytes())
    return folder


def body(pictures):
    if not pictures:
        return {"text": TEXT * 3, "limit": 1}
    import numpy as np
    from PIL import Image

    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((640, 480), Image.BICUBIC).save(file, "jpeg", quality=90)
    return {"image": base64.b64encode(file.getvalue()).decode(), "limit": 1}


def memory(process):
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines if line.endswith(" kB")}
    return [found["VmRSS"], found["RssFile"], found["RssAnon"], found["VmHWM"]]


def measured(program, encoder, requests):
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        environment = {**os.environ, "PERENNIAL_REGISTRY": str(work / "registry")}
        encoder = table(work / "table") if encoder is None else encoder
        # A table's files do not say where a text is cut.
        more = [] if any((encoder / name).exists() for name in ("tokenizer_config.json", "config.json", "preprocessor_config.json")) else ["--max-tokens", "64"]
        command = [program, "--quiet", "--json", "models", "import", encoder, "--alias", "live", *more]
        answer = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
        sizes = sum(file["bytes"] for file in answer["files"]) / 1e6
        asked = json.dumps(body("picture" in str(answer["accepts"]) or "image" in str(answer["accepts"]))).encode()
        command = [program, "--quiet", "serve", "--gallery", work / "gallery", "--listen", "127.0.0.1:0"]
        service = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            url = next(word for word in service.stdout.readline().split() if word.startswith("http")).rstrip("/.,")
            time.sleep(IDLE)
            started = memory(service)
            seconds = []
            for _ in range(requests):
                begin = time.perf_counter()
                request = urllib.request.Request(f"{url}/search", asked, {"content-type": "application/json"})
                urllib.request.urlopen(request, timeout=60).read()
                seconds.append(time.perf_counter() - begin)
            time.sleep(IDLE)
            return sizes, started, memory(service), statistics.median(seconds)
        finally:
            service.terminate()
            service.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("encoders", type=Path)
    parser.add_argument("--encoder", action="append", help="a folder in ENCODERS (default: minilm-int8 and lite0)")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--other", type=Path)
    arguments = parser.parse_args()
    programs = [program.resolve() for program in (arguments.program, arguments.other) if program]
    print("| encoder | files | program | after the start: resident, of it program and other | after requests | most | a search |")
    print("|---|---:|---|---:|---:|---:|---:|")
    for name in [*(arguments.encoder or ["minilm-int8", "lite0"]), None]:
        for program in programs:
            encoder = name and arguments.encoders.resolve() / name
            sizes, started, later, seconds = measured(program, encoder, arguments.requests)
            cells = [f"{found[0]:.0f}, {found[1]:.0f} + {found[2]:.0f}" for found in (started, later)]
            print(f"| {name or 'a small table'} | {sizes:.1f} MB | {program.name} | {cells[0]} | {cells[1]} | {later[3]:.0f} | {seconds * 1000:.1f} ms |", flush=True)


main()
