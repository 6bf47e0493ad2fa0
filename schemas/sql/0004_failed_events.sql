-- With the flushed epoch of a view, or of its back-fill, how many events up to it the view could not be computed of, and why.

ALTER TABLE {database}.streamgauge_flushed
    ADD COLUMN IF NOT EXISTS failed_events UInt64 DEFAULT 0,
    ADD COLUMN IF NOT EXISTS failed_reason String DEFAULT '';
