//! The tables of schema `system`, with their columns, as [`Sheet`](crate::postgres::sheet::Sheet) reads them. What they
//! mean is in the README.

pub(super) const TABLES: &[(&str, &str)] = &[
    (
        "streams",
        "stream built_in:b created_at:ts retention time_column columns:i4 views:i4 memory_rows:i8 memory_bytes:i8 \
         flushed_epoch:i8 flushed_at:ts lag_ms:i8 flush_error",
    ),
    (
        "views",
        "view stream fed_from built_in:b created_at:ts retention idle flush_interval bucket memory_rows:i8 \
         memory_bytes:i8 memory_bytes_max:i8 flushed_epoch:i8 horizon_epoch:i8 lag_ms:i8 flush_error backfill \
         backfill_events_done:i8 backfill_events_total:i8 backfill_error failed_events:i8 failure statement",
    ),
    (
        "flushes",
        "item kind name flushed_epoch:i8 lag_ms:i8 flushes_total:i8 rows_total:i8 last_at:ts last_rows:i8 last_ms:f8 \
         failures_total:i8 failed_at:ts error",
    ),
    ("epochs", "item kind epoch:i8 at:ts age_ms:i8 horizon_epoch:i8 horizon_at:ts"),
    (
        "queries",
        "id:i8 user_name client protocol state started_at:ts waited_ms:f8 elapsed_ms:f8 rows:i8 clickhouse_bytes:i8 \
         memory_bytes:i8 memory_peak_bytes:i8 epoch:i8 partial:b error sql",
    ),
    ("settings", "name value default_value source flag variable description"),
];
