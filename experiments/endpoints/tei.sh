#!/bin/bash
# The calls that text-embeddings-inference (TEI) documents, by plain curl against a running service that embeds texts.
#
#     perennial serve &                                    # a version that embeds texts is live, or upstreams are configured
#     experiments/endpoints/tei.sh http://127.0.0.1:7700 [KEY]
#
# Each call is printed with what came back in short, and checked: how many rows, of one length, finite, of length 1 unless asked otherwise, the same
# text with the same row, and a status of 4xx with a message where TEI has one. Ends with 1 at the first that is not so. Needs curl and python3.
# `openai_client.py --api tei` measures the recall of an index through /embed, before and after an upgrade.
set -euo pipefail

url=${1:?usage: tei.sh URL [KEY]}
key=${2:-}
answer=$(mktemp)
trap 'rm -f "$answer" "$answer".*' EXIT

# call PATH BODY: the status; the answer is in $answer.
call() {
  curl --silent --show-error --output "$answer" --write-out '%{http_code}' "$url$1" -X POST \
    ${key:+-H "authorization: Bearer $key"} -H 'Content-Type: application/json' -d "$2"
}

# rows NAME PATH BODY COUNT UNIT: COUNT rows; UNIT is yes or no. Kept as $answer.NAME.
rows() {
  local status
  status=$(call "$2" "$3")
  python3 - "$answer" "$1" "$2" "$3" "$4" "$5" "$status" <<'PYTHON'
import json, math, shutil, sys
file, name, path, body, count, unit, status = sys.argv[1:]
text = open(file).read()
def need(holds, what):
    if not holds:
        sys.exit(f"{path} {body}: {what}\n{status} {text[:300]}")
need(status == "200", "expected 200")
found = json.loads(text)
if path == "/v1/embeddings":
    found = [row["embedding"] for row in sorted(found["data"], key=lambda row: row["index"])]
need(isinstance(found, list) and len(found) == int(count), f"expected {count} rows")
need(all(isinstance(row, list) and len(row) == len(found[0]) > 0 for row in found), "expected rows of one length")
need(all(math.isfinite(value) for row in found for value in row), "expected finite numbers")
lengths = [math.hypot(*row) for row in found]
if unit == "yes":
    need(all(abs(length - 1) < 1e-3 for length in lengths), f"expected length 1, got {lengths}")
json.dump(found, open(f"{file}.{name}", "w"))
print(f"{path} {body[:80]}: {len(found)} x {len(found[0])}, lengths {', '.join(f'{length:.3f}' for length in lengths)}")
PYTHON
}

# same ONE OTHER: the first rows of two answers have one direction.
same() {
  python3 - "$answer.$1" "$answer.$2" <<'PYTHON'
import json, math, sys
one, other = (json.load(open(file))[0] for file in sys.argv[1:])
cosine = sum(a * b for a, b in zip(one, other)) / math.hypot(*one) / math.hypot(*other)
if cosine < 0.9999:
    sys.exit(f"{sys.argv[1:]}: the same text, and a cosine of {cosine}")
PYTHON
}

# refused PATH BODY: 4xx with a message.
refused() {
  local status
  status=$(call "$1" "$2")
  python3 - "$answer" "$1" "$2" "$status" <<'PYTHON'
import json, sys
file, path, body, status = sys.argv[1:]
text = open(file).read()
if not status.startswith("4") or not json.loads(text).get("error"):
    sys.exit(f"{path} {body}: expected 4xx with an error, got {status} {text[:300]}")
print(f"{path} {body[:80]}: {status}")
PYTHON
}

rows one /embed '{"inputs":"What is Deep Learning?"}' 1 yes
rows two /embed '{"inputs":["What is Deep Learning?", "I like you"]}' 2 yes
same one two
rows cut /embed '{"inputs":"What is Deep Learning?", "truncate":true}' 1 yes
same one cut
rows right /embed '{"inputs":"What is Deep Learning?", "truncate":true, "truncation_direction":"Right"}' 1 yes
same one right
rows unit /embed '{"inputs":"What is Deep Learning?", "normalize":true}' 1 yes
same one unit
rows raw /embed '{"inputs":"What is Deep Learning?", "normalize":false}' 1 no
same one raw
rows query /embed '{"inputs":"What is Deep Learning?", "prompt_name":"query"}' 1 yes
rows document /embed '{"inputs":"What is Deep Learning?", "prompt_name":"document"}' 1 yes
same one document
# TEI's path for clients of OpenAI: the model's name comes from the service.
model=$(curl --silent --fail ${key:+-H "authorization: Bearer $key"} "$url/v1/models" | python3 -c 'import json, sys; print(json.load(sys.stdin)["data"][0]["id"])')
rows openai /v1/embeddings "{\"input\":\"What is Deep Learning?\", \"model\":\"$model\", \"encoding_format\":\"float\"}" 1 no
same one openai
refused /embed '{"inputs":[]}'
refused /embed '{}'
refused /embed '{"inputs":"What is Deep Learning?", "dimensions":7}'
refused /embed '{"inputs":"What is Deep Learning?", "prompt_name":"no such prompt"}'
echo "every call was answered as documented"
