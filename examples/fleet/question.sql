-- Which files do several hosts fail to open, which host was the first, and how much later is
-- the last? The same words for Spark and DuckDB; "calls" is the fleet's traces.
WITH aligned AS (
    -- An event's time is of its own host's clock, which starts at its boot. The offset that the
    -- host recorded makes it nanoseconds since 1970, which is the same for all hosts.
    SELECT host, arg_filename AS file, duration_ns, timestamp_ns + clock_offset_ns AS at_ns
    FROM calls
    WHERE function = 'openat' AND arg_ret < 0
)
SELECT
    file,
    count(*) AS failures,
    count(DISTINCT host) AS hosts,
    min_by(host, at_ns) AS first_host,
    min(at_ns) AS first_ns,
    max(at_ns) - min(at_ns) AS spread_ns,
    max(duration_ns) AS slowest_ns
FROM aligned
GROUP BY file
HAVING count(DISTINCT host) > 1
ORDER BY first_ns, file
