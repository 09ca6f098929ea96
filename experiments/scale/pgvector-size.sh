#!/usr/bin/env bash
# What a row and an entry of an HNSW index cost in PostgreSQL with pgvector: bytes of table and index, by the number of rows.
#
#   experiments/scale/pgvector-size.sh FOLDER [ROWS] [DIM]      FOLDER of `tests/postgres.sh start FOLDER`
#
# The vectors are random; the sizes do not depend on what is in them.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:?a folder of tests/postgres.sh} rows=${2:-4000} dim=${3:-768}
tests/postgres.sh psql "$folder" <<SQL
DROP DATABASE IF EXISTS sizes;
CREATE DATABASE sizes;
\\connect sizes
CREATE EXTENSION vector;
CREATE TABLE items (id bigint PRIMARY KEY, embedding vector($dim));
INSERT INTO items SELECT number, array_agg(random() - 0.5)::vector FROM generate_series(1, $rows) number, generate_series(1, $dim) GROUP BY number;
CREATE INDEX vectors ON items USING hnsw (embedding vector_cosine_ops);
\\pset format unaligned
\\pset tuples_only
SELECT 'PostgreSQL ' || current_setting('server_version') || ', pgvector ' || extversion FROM pg_extension WHERE extname = 'vector';
SELECT 'bytes a row, in the table and outside of it: ' || (pg_table_size('items') / $rows::numeric)::int;
SELECT 'bytes an entry of the HNSW index: ' || (pg_relation_size('vectors') / $rows::numeric)::int;
\\connect postgres
DROP DATABASE sizes;
SQL
