//! What is refused, and what passes.

use datafusion::sql::parser::DFParser;

use super::{Kind, misread};

fn part_of(sql: &str) -> Option<String> {
    let statements = DFParser::parse_sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let kind = |name: &str| match name {
        "abs" => Kind::Scalar,
        "row_number" => Kind::Window,
        _ => Kind::Other,
    };
    misread(&statements[0], &kind).map(|found| found.part)
}

#[test]
fn what_would_be_left_out_is_found() {
    for (sql, part) in [
        ("SELECT count(*) FROM t TABLESAMPLE (10)", "t TABLESAMPLE (10)"),
        ("SELECT 1 FROM u, (SELECT * FROM t) TABLESAMPLE (10)", "(SELECT * FROM t) TABLESAMPLE (10)"),
        ("SELECT * FROM t PARTITION (p0)", "tPARTITION (p0)"), // as the parser writes it
        ("SELECT * FROM t WITH (NOLOCK)", "t WITH (NOLOCK)"),
        ("SELECT * FROM generate_series(1, 2) WITH ORDINALITY", "generate_series(1, 2) WITH ORDINALITY"),
        ("SELECT * FROM t, LATERAL f(1) WITH ORDINALITY", "LATERAL f(1) WITH ORDINALITY"),
        ("SELECT * FROM generate_series(1, 3, SETTINGS a = 2)", "generate_series(1, 3, SETTINGS a = 2)"),
        ("SELECT * FROM generate_series(start => 1, stop => 3)", "generate_series(start => 1, stop => 3)"),
        ("SELECT * FROM t, LATERAL generate_series(stop => 3) AS n", "LATERAL generate_series(stop => 3) AS n"),
        ("SELECT * FROM t, LATERAL s.generate_series(1)", "LATERAL s.generate_series(1)"),
        ("SELECT * FROM generate_series.s(1)", "generate_series.s(1)"),
        ("SELECT a FROM generate_series(1, 3) AS u (a TEXT)", "AS u (a TEXT)"),
        ("SELECT a FROM (SELECT 1) u (a TEXT)", "u (a TEXT)"),
        ("WITH u (a TEXT) AS (SELECT 1) SELECT a FROM u", "u (a TEXT)"),
        ("SELECT x FROM t WHERE x IN (SELECT y FROM u PREWHERE y > 1)", "PREWHERE y > 1"),
        ("SELECT x FROM t START WITH x = 1 CONNECT BY PRIOR x = y", "START WITH x = 1"),
        ("SELECT x, count(*) FROM t GROUP BY x WITH TOTALS", "WITH TOTALS"),
        ("EXPLAIN SELECT x, count(*) FROM t GROUP BY x WITH ROLLUP", "WITH ROLLUP"),
        ("SELECT x FROM t SETTINGS max_threads = 1", "SETTINGS max_threads = 1"),
        ("SELECT x FROM t FORMAT JSON", "FORMAT JSON"),
        ("SELECT x FROM t FOR JSON AUTO", "FOR JSON AUTO"),
        ("SELECT quantile(0.9)(x) FROM t", "quantile(0.9)(x)"),
        ("SELECT 1 + abs(DISTINCT x) FROM t", "abs(DISTINCT x)"),
        ("SELECT ABS(x) FILTER (WHERE y) FROM t", "ABS(x) FILTER (WHERE y)"),
        ("SELECT abs(x) OVER () FROM t", "abs(x) OVER ()"),
        ("SELECT 2 * x ^ 2 FROM t", "2 * x ^ 2"),
        ("SELECT \"abs\"(DISTINCT x) FROM t", "\"abs\"(DISTINCT x)"),
        ("SELECT corr(DISTINCT x, y) FROM t", "corr(DISTINCT x, y)"),
        (
            "SELECT percentile_disc(DISTINCT 0.5) WITHIN GROUP (ORDER BY x) FROM t",
            "percentile_disc(DISTINCT 0.5) WITHIN GROUP (ORDER BY x)",
        ),
        ("SELECT row_number() FILTER (WHERE x) OVER () FROM t", "row_number() FILTER (WHERE x) OVER ()"),
        ("SELECT sum(x) OVER (w ORDER BY y) FROM t WINDOW w AS (PARTITION BY z)", "sum(x) OVER (w ORDER BY y)"),
        ("SELECT 1 FROM t WINDOW w AS (PARTITION BY z), v AS (w ORDER BY y)", "v AS (w ORDER BY y)"),
        ("SELECT x FROM t WINDOW w AS (PARTITION BY z) ORDER BY sum(x) OVER w", "sum(x) OVER w"),
        (
            "WITH RECURSIVE n AS (SELECT 1 UNION ALL SELECT 2 FROM n LIMIT 5) SELECT * FROM n",
            "n AS (SELECT 1 UNION ALL SELECT 2 FROM n LIMIT 5)",
        ),
        ("FROM t |> AGGREGATE sum(x) AS s DESC GROUP BY y", "AGGREGATE sum(x) AS s DESC GROUP BY y"),
    ] {
        assert_eq!(part_of(sql).as_deref(), Some(part), "{sql}");
    }
}

#[test]
fn what_is_read_as_it_is_meant_passes() {
    for sql in [
        "SELECT abs(x), sum(DISTINCT x) FILTER (WHERE y) OVER (ORDER BY z) FROM t AS sample WHERE a <> b GROUP BY ROLLUP (x)",
        "SELECT * EXCLUDE (x) FROM t FOR UPDATE",
        "WITH u AS (SELECT x | 1 FROM t LIMIT 1) SELECT * FROM u, LATERAL (SELECT 1) AS one",
        "WITH u (a) AS (SELECT 1) SELECT a, b FROM u, LATERAL generate_series(1, 3) AS n (b)",
        "SELECT sum(x) OVER w, row_number() OVER (ORDER BY x) FROM t WINDOW w AS (PARTITION BY z ORDER BY y)",
        "WITH RECURSIVE n AS (SELECT 1 UNION ALL SELECT 2 FROM n) SELECT * FROM n ORDER BY 1 LIMIT 5",
    ] {
        assert_eq!(part_of(sql), None, "{sql}");
    }
}
