//! Forms of PostgreSQL, and what they become.

use datafusion::sql::parser::DFParser;

use super::*;

#[test]
fn columns_are_named_as_postgres_names_them() {
    let names = |sql: &str| {
        let statement = DFParser::parse_sql(sql).expect(sql).pop_front().expect(sql);
        let names = names(&statement).into_iter().map(|name| name.unwrap_or_else(|| "-".to_owned()));
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        names("SELECT 1, a, t.a, count(*), pg_catalog.version(), a::text, a + 1, x AS y FROM t"),
        "?column? - - count version a ?column? -"
    );
    assert_eq!(names("(SELECT sum(a) FROM t) UNION ALL SELECT b FROM t"), "sum");
    assert_eq!((names("SELECT 1, * FROM t"), names("EXPLAIN SELECT 1")), (String::new(), String::new()));
}

#[test]
fn forms_of_postgres_become_datafusions() {
    for (sql, expected) in [
        ("SELECT oid FROM pg_class", "SELECT oid FROM pg_catalog.pg_class"),
        ("SELECT a FROM pg_mine", "SELECT a FROM pg_mine"),
        ("SELECT pg_catalog.format_type(1, 2)", "SELECT format_type(1, 2)"),
        ("SELECT current_user, current_schema", "SELECT current_user(), current_schema()"),
        ("SELECT 'public.t'::regclass", "SELECT to_regclass('public.t')"),
        ("SELECT c.oid::pg_catalog.regclass FROM c", "SELECT regclass_name(c.oid) FROM c"),
        ("SELECT t.x::pg_catalog.regtype::pg_catalog.text FROM t", "SELECT format_type(t.x, NULL)::TEXT FROM t"),
        ("SELECT x::oid, y::\"char\", z::jsonb FROM t", "SELECT x::INT UNSIGNED, y::TEXT, z::TEXT FROM t"),
        (
            "SELECT a FROM t WHERE a OPERATOR(pg_catalog.~) '^(t)$' COLLATE pg_catalog.default",
            "SELECT a FROM t WHERE a ~ '^(t)$'",
        ),
        ("SELECT a FROM t WHERE k = ANY ('{r,v}')", "SELECT a FROM t WHERE k = ANY(ARRAY['r', 'v'])"),
        ("SELECT 1, 1, a AS b, c AS b FROM t", "SELECT 1, 1 AS \"1_2\", a AS b, c AS \"b_2\" FROM t"),
        (
            "SELECT indkey AS k FROM pg_index WHERE indrelid = $1 AND indkey[$2::int] > 0",
            "SELECT CAST(NULL AS TEXT) AS \"k\" WHERE false AND $1 IS NULL AND $2 IS NULL",
        ),
        (
            "SELECT indkey, pg_get_indexdef(i.indexrelid), NULL, NULL FROM pg_index i, t",
            "SELECT CAST(NULL AS TEXT) AS \"indkey\", CAST(NULL AS TEXT) AS \"pg_get_indexdef\", CAST(NULL AS \
             TEXT) AS \"?column?\", CAST(NULL AS TEXT) AS \"?column?_2\" WHERE false",
        ),
        ("SELECT count(*) FROM pg_index", "SELECT count(*) FROM pg_catalog.pg_index"),
        (
            "SELECT a FROM t LEFT JOIN pg_index i ON i.x = t.x",
            "SELECT a FROM t LEFT JOIN pg_catalog.pg_index i ON i.x = t.x",
        ),
        ("SELECT a FROM t JOIN pg_catalog.pg_index i ON i.x = t.x", "SELECT CAST(NULL AS TEXT) AS \"a\" WHERE false"),
        (
            "SELECT a FROM pg_catalog.pg_index i RIGHT JOIN t ON i.x = t.x",
            "SELECT a FROM pg_catalog.pg_index i RIGHT JOIN t ON i.x = t.x",
        ),
        (
            "SELECT array(SELECT a FROM t WHERE t.b = u.b ORDER BY 1) FROM u",
            "SELECT (SELECT array_agg(a) FROM t WHERE t.b = u.b) FROM u",
        ),
        (
            "SELECT (SELECT n.nspname FROM pg_namespace n WHERE n.oid = c.x), (SELECT a FROM t) FROM c",
            "SELECT (SELECT first_value(n.nspname) FROM pg_catalog.pg_namespace n WHERE n.oid = c.x), (SELECT a \
             FROM t) FROM c",
        ),
        (
            "SELECT array(SELECT x FROM pg_catalog.unnest(c.o) x), array(SELECT 1 FROM pg_policy) FROM c",
            "SELECT CAST(NULL AS TEXT[]), CAST(NULL AS TEXT[]) AS \"NULL_2\" FROM c",
        ),
        ("SELECT oid FROM pg_class, pg_inherits ORDER BY inhseqno", "SELECT CAST(NULL AS TEXT) AS \"oid\" WHERE false"),
        ("SELECT a FROM t WHERE a LIKE 'pg/_\\' || '%' ESCAPE '/'", "SELECT a FROM t WHERE a LIKE 'pg\\_\\\\' || '%'"),
        (
            "SELECT a FROM t WHERE s IN (SELECT x FROM f(current_setting('search_path')) x)",
            "SELECT a FROM t WHERE s IN ('public')",
        ),
        ("SELECT db.oid, db.*, x.oid FROM db, x", "SELECT db.oid AS \"oid_2\", db.*, x.oid FROM db, x"),
        ("SELECT ts, * FROM t", "SELECT ts AS \"ts_2\", * FROM t"),
        ("SELECT ts, ts::date, t.a, u.a FROM t, u", "SELECT ts, ts::DATE AS \"ts_2\", t.a, u.a FROM t, u"),
        (
            "SELECT CASE WHEN t.typtype = 'd' THEN (WITH RECURSIVE b AS (SELECT 1 AS oid) SELECT oid FROM b) ELSE NULL END FROM t",
            "SELECT CAST(NULL AS INT UNSIGNED) FROM t",
        ),
        (
            "SELECT CASE WHEN (typtype = 'c') THEN (SELECT array_agg(a.atttypid ORDER BY 1) FROM pg_attribute a) END FROM t",
            "SELECT CAST(NULL AS INT UNSIGNED[]) FROM t",
        ),
        ("SELECT CASE WHEN typtype = 'e' THEN 1 ELSE x END FROM t", "SELECT x FROM t"),
        (
            "SELECT CASE WHEN typtype = 'e' THEN 1 WHEN typtype = 'b' THEN 2 END FROM t",
            "SELECT CASE WHEN typtype = 'b' THEN 2 END FROM t",
        ),
        ("SELECT (parse_ident('public.t'))[2]", "SELECT (ARRAY['public', 't'])[2]"),
        (
            "SELECT k, bool_and(i) FROM (SELECT k, i FROM pg_index) x GROUP BY k ORDER BY z",
            "SELECT CAST(NULL AS TEXT) AS \"k\", CAST(NULL AS TEXT) AS \"bool_and\" WHERE false",
        ),
        (
            "SELECT TO_TIMESTAMP('2024-01-01', 'YYYY-MM-DD'), to_char(t, '%H'), to_date(a, b), to_timestamp(1)",
            "SELECT TO_TIMESTAMP('2024-01-01', '%Y-%m-%d'), to_char(t, '%H'), to_date(a, b), to_timestamp(1)",
        ),
        ("SELECT a FROM t ORDER BY a FETCH FIRST 10 ROWS ONLY", "SELECT a FROM t ORDER BY a LIMIT 10"),
        ("SELECT a FROM (SELECT a FROM t FETCH NEXT ROW ONLY) u", "SELECT a FROM (SELECT a FROM t LIMIT 1) u"),
        ("SELECT a FROM t OFFSET 2 ROWS FETCH FIRST 1 ROW ONLY", "SELECT a FROM t LIMIT 1 OFFSET 2 ROWS"),
        ("SELECT a FROM t FETCH FIRST 1 ROWS WITH TIES", "SELECT a FROM t FETCH FIRST 1 ROWS WITH TIES"),
        (
            "SELECT * FROM generate_series(1, 3)",
            "SELECT * FROM generate_series(1, 3) AS generate_series (generate_series)",
        ),
        (
            "SELECT n FROM pg_catalog.Generate_Series(a, b, '1 day') n",
            "SELECT n FROM generate_series(a, b, CAST('1 day' AS INTERVAL)) n (n)",
        ),
        (
            "SELECT 1 FROM t, LATERAL generate_series(1, 9, '2') \"N\", generate_series(1) AS u (v), range(1)",
            "SELECT 1 FROM t, LATERAL generate_series(1, 9, '2') \"N\" (\"N\"), generate_series(1) AS u (v), range(1)",
        ),
        (
            "SELECT * FROM generate_series(1, 2) WITH ORDINALITY, generate_series(stop => 3)",
            "SELECT * FROM generate_series(1, 2) WITH ORDINALITY, generate_series(stop => 3)",
        ),
        ("SELECT localtime, LOCALTIMESTAMP", "SELECT current_time(), CAST(now() AS TIMESTAMP)"),
        ("SELECT statement_timestamp(), transaction_timestamp()", "SELECT now(), now() AS \"now_2\""),
        ("SELECT age(t), pg_catalog.age(a, b) FROM t", "SELECT age(current_date(), t), age(a, b) FROM t"),
        (
            "SELECT make_interval(1, DAYS => 2, secs := x), make_interval()",
            "SELECT make_interval(1, 0, 0, 2, 0, 0, x), make_interval(0, 0, 0, 0, 0, 0, 0)",
        ),
        (
            "SELECT make_interval(days => 1, 2), make_interval(1, years => 1), make_interval(1, 1, 1, 1, 1, 1, 1, 1)",
            "SELECT make_interval(days => 1, 2), make_interval(1, years => 1), make_interval(1, 1, 1, 1, 1, 1, 1, 1)",
        ),
        ("SELECT sum(value) FROM metrics WHERE name = 'x'", "SELECT sum(value) FROM metrics WHERE name = 'x'"),
    ] {
        let mut statement = DFParser::parse_sql(sql).expect(sql).pop_front().expect(sql);
        adapt(&mut statement);
        assert_eq!(statement.to_string(), expected, "{sql}");
    }
}
