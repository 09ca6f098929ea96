#!/usr/bin/env python3
"""The unmodified `openai` package as a client of a running service, and an index of one's own that is written once.

    python3 -m venv VENV && VENV/bin/pip install openai
    perennial serve --answer-in v0001 &                                        # v0001 is live
    VENV/bin/python experiments/endpoints/openai_client.py check  http://127.0.0.1:7700
    VENV/bin/python experiments/endpoints/openai_client.py index  http://127.0.0.1:7700 DOCUMENTS index.json
    VENV/bin/python experiments/endpoints/openai_client.py search http://127.0.0.1:7700 QUERIES index.json --out before.json
    perennial models promote v0002
    VENV/bin/python experiments/endpoints/openai_client.py search http://127.0.0.1:7700 QUERIES index.json --compare before.json

DOCUMENTS and QUERIES are folders of pictures, whose class is the first folder in their path, or files of JSON lines with `id`, `text` and
optionally `label`. What is right: items of the query's label, or `--relevance FILE` (TREC: query 0 item grade). The index is a file: it stands for any
database, is written by `index` and only read by `search`. A model's name is needed where the service has several (`--model`); queries are told apart by the end of
the name, `-query`, so nothing but the name differs between the two requests. Results are JSON on standard output.

With `--api tei`, `index` and `search` ask `POST /embed` as text-embeddings-inference has it, in place of the package: `inputs`, and `prompt_name`
`document` or `query`. Either reads the index that the other wrote. The package is not needed then.
"""

import argparse
import base64
import json
import mimetypes
import operator
import pathlib
import sys
import urllib.error
import urllib.request

try:
    import openai
except ImportError:
    openai = None

BATCH = 64
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
TOP = 10


def read_inputs(path):
    """Id, input and label of every picture or text."""
    path = pathlib.Path(path)
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() not in PICTURES:
                continue
            name = file.relative_to(path)
            kind = mimetypes.guess_type(file.name)[0] or "image/png"
            url = f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
            yield str(name), url, name.parts[0] if len(name.parts) > 1 else None
    else:
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            yield str(entry["id"]), entry["text"], entry.get("label")


class Package:
    """The `openai` package. It asks for base64 unless it is told otherwise."""

    def __init__(self, url, key):
        if openai is None:
            sys.exit("the package is not installed: pip install openai, or --api tei")
        self.client = openai.OpenAI(base_url=url.rstrip("/") + "/v1", api_key=key)

    def model(self, name):
        """The name given, or the first that the service lists."""
        return name or self.client.models.list().data[0].id

    def embed(self, model, inputs, kind):
        """Embeddings in the order of the inputs, and the headers of the answer."""
        name = f"{model}-query" if kind == "query" else model
        raw = self.client.embeddings.with_raw_response.create(model=name, input=inputs)
        return [entry.embedding for entry in raw.parse().data], raw.headers


class Tei:
    """Requests as text-embeddings-inference takes them, which have no model's name."""

    def __init__(self, url, key):
        self.url, self.headers = url.rstrip("/") + "/embed", {"content-type": "application/json"}
        if key != "none":
            self.headers["authorization"] = f"Bearer {key}"

    def model(self, name):
        if name:
            sys.exit("/embed has no model's name: leave --model out")
        return None

    def embed(self, model, inputs, kind):
        body = json.dumps({"inputs": inputs, "prompt_name": kind}).encode()
        request = urllib.request.Request(self.url, body, self.headers, method="POST")
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer), answer.headers
        except urllib.error.HTTPError as error:
            sys.exit(f"/embed: {error.code} {error.read().decode(errors='replace')}")


def embed(client, model, inputs, kind):
    """Embeddings in the order of the inputs, by as many requests as needed, and the headers of the last answer."""
    vectors, headers = [], None
    for start in range(0, len(inputs), BATCH):
        rows, headers = client.embed(model, inputs[start : start + BATCH], kind)
        vectors += rows
    return vectors, headers


def unit(vector):
    norm = sum(map(operator.mul, vector, vector)) ** 0.5
    return [value / norm for value in vector]


def read_relevance(path):
    right = {}
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        query, _, item, grade = line.split()
        if int(grade) > 0:
            right.setdefault(query, set()).add(item)
    return right


def check(api, arguments):
    """What such a client relies on, beyond embeddings: models, both encodings of vectors, and errors as its own exceptions."""
    if arguments.api != "openai":
        sys.exit("tei.sh checks /embed; `check` is for the package")
    client, model = api.client, api.model(arguments.model)
    picture = "data:image/png;base64," + (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
    )
    given = arguments.input or picture
    coded = client.embeddings.create(model=model, input=given)
    plain = client.embeddings.create(model=model, input=[given, given], encoding_format="float", user="somebody")
    assert coded.object == "list" and coded.data[0].object == "embedding"
    assert [entry.index for entry in plain.data] == [0, 1]
    largest = max(abs(one - other) for one, other in zip(coded.data[0].embedding, plain.data[0].embedding))
    assert largest < 1e-6, largest
    query = client.embeddings.create(model=model, input=given, extra_body={"input_type": "query"})
    named = client.embeddings.create(model=f"{model}-query", input=given)
    assert query.data[0].embedding == named.data[0].embedding
    refused = {}
    for what, wanted, call in [
        ("unknown model", openai.NotFoundError, {"model": "no-such-model", "input": given}),
        ("token ids", openai.UnprocessableEntityError, {"model": model, "input": [1, 2, 3]}),
        ("other dimension", openai.UnprocessableEntityError, {"model": model, "input": given, "dimensions": 1}),
    ]:
        try:
            client.embeddings.create(**call)
        except wanted as error:
            refused[what] = {"status": error.status_code, "code": error.code, "type": error.type, "param": error.param}
        else:
            sys.exit(f"{what} was not refused")
    raw = client.embeddings.with_raw_response.create(model=f"{model}-query", input=given)
    return {
        "openai": openai.__version__,
        "models": [entry.id for entry in client.models.list().data],
        "dimensions": len(coded.data[0].embedding),
        "usage": coded.usage.model_dump(),
        "space": raw.headers["x-embedding-space"],
        "route_of_queries": raw.headers["x-embedding-route"],
        "refused": refused,
    }


def index(client, arguments):
    model = client.model(arguments.model)
    ids, inputs, labels = zip(*read_inputs(arguments.inputs))
    vectors, _ = embed(client, model, list(inputs), "document")
    vectors = [unit(vector) for vector in vectors]
    content = {"model": model, "ids": ids, "labels": labels, "vectors": vectors}
    pathlib.Path(arguments.index).write_text(json.dumps(content))
    return {"model": model, "documents": len(ids), "dimensions": len(vectors[0])}


def search(client, arguments):
    content = json.loads(pathlib.Path(arguments.index).read_text())
    # An index that was written by /embed knows no name.
    model = client.model(arguments.model or (content["model"] if arguments.api == "openai" else None))
    ids, inputs, labels = zip(*read_inputs(arguments.inputs))
    vectors, headers = embed(client, model, list(inputs), "query")
    vectors = [unit(vector) for vector in vectors]
    relevance = read_relevance(arguments.relevance) if arguments.relevance else None
    firsts, shares, averages, reciprocal = [], [], [], []
    for query, label, vector in zip(ids, labels, vectors):
        if relevance is not None:
            right = [item in relevance.get(query, ()) for item in content["ids"]]
        else:
            right = [label is not None and label == other for other in content["labels"]]
        if not any(right):
            continue
        scores = [sum(map(operator.mul, vector, row)) for row in content["vectors"]]
        order = sorted(range(len(scores)), key=lambda item: (-scores[item], item))
        ranks = [rank for rank, item in enumerate(order, 1) if right[item]]
        firsts.append(ranks[0] == 1)
        shares.append(ranks[0] <= TOP)
        reciprocal.append(1 / ranks[0])
        averages.append(sum(found / rank for found, rank in enumerate(ranks, 1)) / len(ranks))
    if not firsts:
        sys.exit("no query has a right item in the index")
    mean = lambda values: sum(values) / len(values)
    result = {
        "api": arguments.api,
        "route": headers["x-embedding-route"],
        "space": headers["x-embedding-space"],
        "queries": len(firsts),
        "documents": len(content["ids"]),
        "recall_at_1": mean(firsts),
        f"recall_at_{TOP}": mean(shares),
        "mrr": mean(reciprocal),
        "map": mean(averages),
    }
    if arguments.out:
        pathlib.Path(arguments.out).write_text(json.dumps(result, indent=2) + "\n")
    if arguments.compare:
        before = json.loads(pathlib.Path(arguments.compare).read_text())
        keys = ["recall_at_1", f"recall_at_{TOP}", "mrr", "map"]
        result["change"] = {key: result[key] - before[key] for key in keys}
        result["route_before"] = before["route"]
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--key", default="none", help="API key of the service, where it has keys")
    parser.add_argument("--api", choices=["openai", "tei"], default="openai", help="how the service is asked [default: openai]")
    parser.add_argument("--model", help="name to ask for [default: the first of /v1/models, or that of the index]")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("check")
    one.add_argument("url")
    one.add_argument("--input", help="what to embed [default: a picture of one pixel]")
    one.set_defaults(run=check)
    one = commands.add_parser("index")
    one.add_argument("url")
    one.add_argument("inputs")
    one.add_argument("index")
    one.set_defaults(run=index)
    one = commands.add_parser("search")
    one.add_argument("url")
    one.add_argument("inputs")
    one.add_argument("index")
    one.add_argument("--relevance")
    one.add_argument("--out")
    one.add_argument("--compare")
    one.set_defaults(run=search)
    arguments = parser.parse_args()
    client = {"openai": Package, "tei": Tei}[arguments.api](arguments.url, arguments.key)
    print(json.dumps(arguments.run(client, arguments), indent=2))


if __name__ == "__main__":
    main()
