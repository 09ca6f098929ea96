#!/usr/bin/env bash
# The tests of migrations and galleries in Qdrant against a real server or cluster. Without one they run in every `cargo test`, against a server of their own.
#
#   PERENNIAL_QDRANT=qdrant://HOST:6333 tests/qdrant.sh [arguments of cargo test]
#
#   QDRANT_API_KEY                       the key, if the server wants one; it may manage collections
#   PERENNIAL_QDRANT_SHARDS              shards of the collections that the tests make (1)
#   PERENNIAL_QDRANT_REPLICATION         their replication factor (1); 2 or more needs as many nodes
#   PERENNIAL_QDRANT_WRITE_CONSISTENCY   replicas that must have applied a write before it is answered (1)
#
# A cluster is best tested with 3 shards, replication factor 2 and write consistency factor 2. Collections are named perennial_test_… and are dropped in the end;
# notes go to perennial_migrations, which goes with its last migration. Nothing else is touched. Tests that need injected faults say that they are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -z ${PERENNIAL_QDRANT:-} ]]; then
  echo "skipped: PERENNIAL_QDRANT names no server; set it to qdrant://HOST:6333 (qdrants:// for TLS)"
  exit 0
fi
echo "server: $PERENNIAL_QDRANT, shards ${PERENNIAL_QDRANT_SHARDS:-1}, replication factor ${PERENNIAL_QDRANT_REPLICATION:-1}," \
  "write consistency factor ${PERENNIAL_QDRANT_WRITE_CONSISTENCY:-1}"
# One after the other: the tests share the collection of notes.
exec cargo test -p perennial-connect --features qdrant,tls --test qdrant "$@" -- --test-threads=1 --nocapture
