-- Streams, the built-in stream `metrics`, and its four rollups.
--
-- Retention and partitions count from arrival (the epoch), not from event time: a late event of any age is kept as
-- long as a new one, and one insert touches few partitions however far its event times spread.
--
-- Settings that every table shares, and why:
--   fsync_after_insert, fsync_part_directory, min_rows_to_fsync_after_merge
--       the log is cut behind a confirmed flush, so a confirmed row must outlive a power failure, merged or not;
--   vertical_merge_algorithm_min_*
--       merging `Map` columns row by row costs three times the processor time of doing it column by column;
--   ttl_only_drop_parts
--       expired months are dropped whole and never rewritten.
-- `non_replicated_deduplication_window` makes a repeated insert of the same token a no-op.

-- Everything of `item` up to `epoch` is in ClickHouse: the largest epoch of an item counts.
CREATE TABLE IF NOT EXISTS {database}.streamgauge_flushed
(
    item String,
    shard UInt16 DEFAULT 0,
    epoch UInt64
)
ENGINE = ReplacingMergeTree(epoch)
ORDER BY (item, shard)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

-- The streams of the user's own: `definition` is JSON, `version` the epoch of the last change.
CREATE TABLE IF NOT EXISTS {database}.streamgauge_streams
(
    id UInt64,
    name String,
    definition String,
    version UInt64,
    dropped Bool DEFAULT false
)
ENGINE = ReplacingMergeTree(version)
ORDER BY id
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS {database}.metrics
(
    ts DateTime64(6, 'UTC') CODEC(Delta(8), LZ4),
    name LowCardinality(String),
    value Float64,
    dimensions Map(LowCardinality(String), String),
    source LowCardinality(String),
    _epoch UInt64 CODEC(Delta(8), LZ4),
    INDEX epoch_range _epoch TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(toInt64(_epoch), 'UTC'))
ORDER BY (name, ts)
TTL toDateTime(intDiv(_epoch, 1000000), 'UTC') + INTERVAL 365 DAY
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1,
    vertical_merge_algorithm_min_columns_to_activate = 1, vertical_merge_algorithm_min_rows_to_activate = 1,
    fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

-- One row is one generation of a group (a series and the lower bound of a bucket); `version` says how new its state is.
CREATE TABLE IF NOT EXISTS {database}.metrics_1s_states
(
    name LowCardinality(String),
    dimensions Map(LowCardinality(String), String),
    series UInt128,
    bucket DateTime64(6, 'UTC') CODEC(Delta(8), LZ4),
    shard UInt16 DEFAULT 0,
    generation UInt64 CODEC(Delta(8), LZ4),
    version UInt64 CODEC(Delta(8), LZ4),
    count UInt64,
    sum Float64,
    min Float64,
    max Float64,
    INDEX version_range version TYPE minmax GRANULARITY 1,
    INDEX bucket_range bucket TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(toInt64(generation), 'UTC'))
ORDER BY (name, series, bucket, shard, generation)
TTL toDateTime(intDiv(version, 1000000), 'UTC') + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1,
    vertical_merge_algorithm_min_columns_to_activate = 1, vertical_merge_algorithm_min_rows_to_activate = 1,
    fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

-- The finished rollup, for direct readers: generations are merged, a row is a bucket of a series.
CREATE VIEW IF NOT EXISTS {database}.metrics_1s AS
SELECT
    s.bucket AS bucket,
    s.name AS name,
    any(s.dimensions) AS dimensions,
    sum(s.count) AS count,
    sum(s.sum) AS sum,
    min(s.min) AS min,
    max(s.max) AS max,
    sum(s.sum) / sum(s.count) AS avg
FROM {database}.metrics_1s_states AS s FINAL
GROUP BY s.name, s.series, s.bucket
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- One row is one generation of a group (a series and the lower bound of a bucket); `version` says how new its state is.
CREATE TABLE IF NOT EXISTS {database}.metrics_1m_states
(
    name LowCardinality(String),
    dimensions Map(LowCardinality(String), String),
    series UInt128,
    bucket DateTime64(6, 'UTC') CODEC(Delta(8), LZ4),
    shard UInt16 DEFAULT 0,
    generation UInt64 CODEC(Delta(8), LZ4),
    version UInt64 CODEC(Delta(8), LZ4),
    count UInt64,
    sum Float64,
    min Float64,
    max Float64,
    INDEX version_range version TYPE minmax GRANULARITY 1,
    INDEX bucket_range bucket TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(toInt64(generation), 'UTC'))
ORDER BY (name, series, bucket, shard, generation)
TTL toDateTime(intDiv(version, 1000000), 'UTC') + INTERVAL 2 YEAR
SETTINGS ttl_only_drop_parts = 1,
    vertical_merge_algorithm_min_columns_to_activate = 1, vertical_merge_algorithm_min_rows_to_activate = 1,
    fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

-- The finished rollup, for direct readers: generations are merged, a row is a bucket of a series.
CREATE VIEW IF NOT EXISTS {database}.metrics_1m AS
SELECT
    s.bucket AS bucket,
    s.name AS name,
    any(s.dimensions) AS dimensions,
    sum(s.count) AS count,
    sum(s.sum) AS sum,
    min(s.min) AS min,
    max(s.max) AS max,
    sum(s.sum) / sum(s.count) AS avg
FROM {database}.metrics_1m_states AS s FINAL
GROUP BY s.name, s.series, s.bucket
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- One row is one generation of a group (a series and the lower bound of a bucket); `version` says how new its state is.
CREATE TABLE IF NOT EXISTS {database}.metrics_1h_states
(
    name LowCardinality(String),
    dimensions Map(LowCardinality(String), String),
    series UInt128,
    bucket DateTime64(6, 'UTC') CODEC(Delta(8), LZ4),
    shard UInt16 DEFAULT 0,
    generation UInt64 CODEC(Delta(8), LZ4),
    version UInt64 CODEC(Delta(8), LZ4),
    count UInt64,
    sum Float64,
    min Float64,
    max Float64,
    INDEX version_range version TYPE minmax GRANULARITY 1,
    INDEX bucket_range bucket TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(toInt64(generation), 'UTC'))
ORDER BY (name, series, bucket, shard, generation)
TTL toDateTime(intDiv(version, 1000000), 'UTC') + INTERVAL 10 YEAR
SETTINGS ttl_only_drop_parts = 1,
    vertical_merge_algorithm_min_columns_to_activate = 1, vertical_merge_algorithm_min_rows_to_activate = 1,
    fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

-- The finished rollup, for direct readers: generations are merged, a row is a bucket of a series.
CREATE VIEW IF NOT EXISTS {database}.metrics_1h AS
SELECT
    s.bucket AS bucket,
    s.name AS name,
    any(s.dimensions) AS dimensions,
    sum(s.count) AS count,
    sum(s.sum) AS sum,
    min(s.min) AS min,
    max(s.max) AS max,
    sum(s.sum) / sum(s.count) AS avg
FROM {database}.metrics_1h_states AS s FINAL
GROUP BY s.name, s.series, s.bucket
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- One row is one generation of a group (a series and the lower bound of a bucket); `version` says how new its state is.
CREATE TABLE IF NOT EXISTS {database}.metrics_1d_states
(
    name LowCardinality(String),
    dimensions Map(LowCardinality(String), String),
    series UInt128,
    bucket DateTime64(6, 'UTC') CODEC(Delta(8), LZ4),
    shard UInt16 DEFAULT 0,
    generation UInt64 CODEC(Delta(8), LZ4),
    version UInt64 CODEC(Delta(8), LZ4),
    count UInt64,
    sum Float64,
    min Float64,
    max Float64,
    INDEX version_range version TYPE minmax GRANULARITY 1,
    INDEX bucket_range bucket TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(toInt64(generation), 'UTC'))
ORDER BY (name, series, bucket, shard, generation)
TTL toDateTime(intDiv(version, 1000000), 'UTC') + INTERVAL 20 YEAR
SETTINGS ttl_only_drop_parts = 1,
    vertical_merge_algorithm_min_columns_to_activate = 1, vertical_merge_algorithm_min_rows_to_activate = 1,
    fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

-- The finished rollup, for direct readers: generations are merged, a row is a bucket of a series.
CREATE VIEW IF NOT EXISTS {database}.metrics_1d AS
SELECT
    s.bucket AS bucket,
    s.name AS name,
    any(s.dimensions) AS dimensions,
    sum(s.count) AS count,
    sum(s.sum) AS sum,
    min(s.min) AS min,
    max(s.max) AS max,
    sum(s.sum) / sum(s.count) AS avg
FROM {database}.metrics_1d_states AS s FINAL
GROUP BY s.name, s.series, s.bucket
SETTINGS do_not_merge_across_partitions_select_final = 1;
