//! Sizes of tables and indexes, with those of their partitions.

/// The sum of a size over all partitions, as SQL has it: partitioned tables and indexes are empty themselves.
pub(super) fn with_partitions(size: &str, relation: &str) -> String {
    format!(
        "(WITH RECURSIVE parts AS (SELECT {relation} AS part UNION ALL SELECT i.inhrelid FROM pg_catalog.pg_inherits i \
         JOIN parts ON i.inhparent = parts.part) SELECT sum({size}(part))::bigint FROM parts)"
    )
}
