-- The views of the user's own.
--
-- Their tables are made and dropped by the sinks, as the changes of the catalog say. The shape is that of the rollups in
-- step 1: `<view>_states` with a row a generation of a group, and the finished view for direct readers. A test keeps the
-- statements of the rollups equal to what the sinks would make of them.

-- `definition` is JSON, `version` the epoch of the last change.
CREATE TABLE IF NOT EXISTS {database}.streamgauge_views
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
