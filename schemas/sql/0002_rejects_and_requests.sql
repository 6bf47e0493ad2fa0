-- The built-in streams `rejects` and `requests`: events that were not accepted, and ingest requests that named
-- themselves.
--
-- Both are streams like a user's, and their tables have the same shape: all columns but the time are nullable, the
-- hidden `_epoch` has an index and decides the partition and the retention. The settings are those of `metrics`, for the
-- same reasons. A test keeps these statements equal to what the sinks would make of the definitions.

CREATE TABLE IF NOT EXISTS {database}.rejects
(
    at DateTime64(6, 'UTC'),
    stream Nullable(String),
    source Nullable(String),
    position Nullable(Int64),
    reason Nullable(String),
    event Nullable(String),
    id Nullable(String),
    _epoch UInt64 CODEC(Delta(8), LZ4),
    INDEX epoch_range _epoch TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(toInt64(_epoch), 'UTC'))
ORDER BY (at)
TTL toDateTime(intDiv(_epoch, 1000000), 'UTC') + INTERVAL 2592000 SECOND
SETTINGS allow_nullable_key = 1, non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1,
    vertical_merge_algorithm_min_columns_to_activate = 1, vertical_merge_algorithm_min_rows_to_activate = 1,
    fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS {database}.requests
(
    at DateTime64(6, 'UTC'),
    stream Nullable(String),
    key Nullable(String),
    producer Nullable(String),
    sequence Nullable(Int64),
    body_hash Nullable(String),
    accepted Nullable(Int64),
    rejected Nullable(String),
    _epoch UInt64 CODEC(Delta(8), LZ4),
    INDEX epoch_range _epoch TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(toInt64(_epoch), 'UTC'))
ORDER BY (at)
TTL toDateTime(intDiv(_epoch, 1000000), 'UTC') + INTERVAL 2592000 SECOND
SETTINGS allow_nullable_key = 1, non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1,
    vertical_merge_algorithm_min_columns_to_activate = 1, vertical_merge_algorithm_min_rows_to_activate = 1,
    fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;
