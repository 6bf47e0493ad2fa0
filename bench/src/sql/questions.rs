//! What is asked: of the program, and in ClickHouse's own words.

/// A question in both dialects.
pub(super) struct Question {
    pub(super) name: &'static str,
    pub(super) ours: &'static str,
    pub(super) clickhouse: &'static str,
}

/// A question that reads the same for both.
const fn same(name: &'static str, sql: &'static str) -> Question {
    Question { name, ours: sql, clickhouse: sql }
}

const fn question(name: &'static str, ours: &'static str, clickhouse: &'static str) -> Question {
    Question { name, ours, clickhouse }
}

/// All of them.
pub(super) const QUESTIONS: &[Question] = &[
    same("filter and count", "SELECT count(*) FROM hits WHERE status = 500 AND ms > 100"),
    same("totals", "SELECT count(*), sum(bytes), avg(ms), max(ms) FROM hits"),
    same("by country", "SELECT country, count(*), sum(bytes), avg(ms) FROM hits GROUP BY country"),
    same("by status and country", "SELECT status, country, count(*), avg(ms) FROM hits GROUP BY status, country"),
    same("spread by country", "SELECT country, min(ms), max(ms), stddev_samp(ms) FROM hits GROUP BY country"),
    same("top 10 pages", "SELECT url, count(*) AS c FROM hits GROUP BY url ORDER BY c DESC, url LIMIT 10"),
    same(
        "slowest pages with errors",
        "SELECT url, avg(ms) AS a FROM hits WHERE status = 500 GROUP BY url HAVING count(*) > 10 ORDER BY a DESC LIMIT 10",
    ),
    same(
        "top 10 of 200,000 users",
        "SELECT user_id, count(*) AS c, sum(bytes) FROM hits GROUP BY user_id ORDER BY c DESC, user_id LIMIT 10",
    ),
    same("all of 20,000 pages", "SELECT url, count(*), sum(bytes) FROM hits GROUP BY url"),
    question("distinct users", "SELECT count(DISTINCT user_id) FROM hits", "SELECT uniqExact(user_id) FROM hits"),
    question(
        "distinct users by country",
        "SELECT country, count(DISTINCT user_id) FROM hits GROUP BY country",
        "SELECT country, uniqExact(user_id) FROM hits GROUP BY country",
    ),
    question(
        "hours of a month",
        "SELECT date_bin('1 hour', ts) AS h, count(*), avg(ms) FROM hits GROUP BY h ORDER BY h",
        "SELECT toStartOfInterval(ts, INTERVAL 1 hour) AS h, count(), avg(ms) FROM hits GROUP BY h ORDER BY h",
    ),
    question(
        "minutes of a day in a country",
        "SELECT date_trunc('minute', ts) AS m, count(*), avg(ms) FROM hits WHERE country = 'it' AND ts >= '2026-10-05T00:00:00Z' AND ts < '2026-10-06T00:00:00Z' GROUP BY m ORDER BY m",
        "SELECT toStartOfMinute(ts) AS m, count(), avg(ms) FROM hits WHERE country = 'it' AND ts >= '2026-10-05 00:00:00' AND ts < '2026-10-06 00:00:00' GROUP BY m ORDER BY m",
    ),
    question(
        "hour of day, of errors",
        "SELECT date_part('hour', ts) AS h, count(*) FILTER (WHERE status >= 400), count(*) FROM hits GROUP BY h ORDER BY h",
        "SELECT toHour(ts) AS h, countIf(status >= 400), count() FROM hits GROUP BY h ORDER BY h",
    ),
    question(
        "99th percentile",
        "SELECT approx_percentile_cont(ms, 0.99) FROM hits",
        "SELECT quantileTDigest(0.99)(ms) FROM hits",
    ),
    question(
        "percentiles by country",
        "SELECT country, approx_percentile_cont(ms, 0.5), approx_percentile_cont(ms, 0.95) FROM hits GROUP BY country",
        "SELECT country, quantilesTDigest(0.5, 0.95)(ms) FROM hits GROUP BY country",
    ),
    same("events of a user", "SELECT ts, url, ms, status FROM hits WHERE user_id = 4711 ORDER BY ts DESC LIMIT 100"),
    same("100 largest", "SELECT ts, url, bytes, ms FROM hits ORDER BY bytes DESC, ms DESC LIMIT 100"),
    question(
        "latest of a country",
        "SELECT ts, url, ms FROM hits WHERE country = 'de' ORDER BY ts DESC LIMIT 100",
        "SELECT ts, url, ms FROM hits WHERE country = 'de' ORDER BY country DESC, ts DESC LIMIT 100",
    ),
    same("pages that contain a text", "SELECT count(*) FROM hits WHERE url LIKE '%77%'"),
    same(
        "join with users, by plan",
        "SELECT u.plan, count(*), avg(h.ms) FROM hits AS h JOIN users AS u ON h.user_id = u.user_id GROUP BY u.plan",
    ),
    same(
        "hits of users with a plan",
        "SELECT country, count(*) FROM hits WHERE user_id IN (SELECT user_id FROM users WHERE plan = 'pro') GROUP BY country",
    ),
];
