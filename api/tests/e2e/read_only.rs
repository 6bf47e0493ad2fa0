//! What cannot be done by a statement: change data, read files or addresses, reach ClickHouse's own statements.

use serde_json::json;

use crate::postgres::connect;
use crate::support::client::accepted;
use crate::support::{DataDir, Program};

/// Statements that would change something, or load something.
const STATEMENTS: &[&str] = &[
    "INSERT INTO metrics VALUES (now(), 'x', 1, MAP {}, '')",
    "INSERT INTO metrics SELECT * FROM metrics",
    "INSERT OVERWRITE metrics SELECT * FROM metrics",
    "REPLACE INTO metrics VALUES (1)",
    "UPDATE metrics SET value = 1",
    "DELETE FROM metrics",
    "MERGE INTO metrics USING metrics_1s ON true WHEN MATCHED THEN DELETE",
    "TRUNCATE TABLE metrics",
    "WITH x AS (INSERT INTO metrics SELECT * FROM metrics RETURNING *) SELECT * FROM x",
    "SELECT * INTO copy FROM metrics",
    "CREATE TABLE t (a INT)",
    "CREATE TABLE t AS SELECT 1",
    "CREATE TEMPORARY TABLE t AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
    "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'http://127.0.0.1/x.parquet'",
    "CREATE DATABASE d",
    "CREATE SCHEMA s",
    "CREATE INDEX i ON metrics (value)",
    "CREATE FUNCTION f(INT) RETURNS INT RETURN $1 + 1",
    "CREATE EXTENSION file_fdw",
    "CREATE ROLE r",
    "CREATE TRIGGER t AFTER INSERT ON metrics EXECUTE FUNCTION f()",
    "ALTER TABLE metrics ADD COLUMN x INT",
    "ALTER ROLE streamgauge SUPERUSER",
    "DROP TABLE metrics",
    "DROP VIEW metrics_1s",
    "DROP SCHEMA public CASCADE",
    "DROP FUNCTION abs",
    "COPY metrics TO '/tmp/streamgauge-read-only.csv'",
    "COPY metrics TO PROGRAM 'touch /tmp/streamgauge-read-only.csv'",
    "COPY (SELECT 1) TO 'http://127.0.0.1/x.csv' STORED AS CSV",
    "COPY metrics FROM '/etc/passwd'",
    "EXPLAIN INSERT INTO metrics SELECT * FROM metrics",
    "EXPLAIN ANALYZE INSERT INTO metrics SELECT * FROM metrics",
    "EXPLAIN ANALYZE COPY metrics TO '/tmp/streamgauge-read-only.csv'",
    "PREPARE p AS INSERT INTO metrics SELECT * FROM metrics",
    "EXECUTE p",
    "GRANT ALL ON metrics TO PUBLIC",
    "REVOKE ALL ON metrics FROM PUBLIC",
    "VACUUM metrics",
    "ANALYZE metrics",
    "LOAD 'x'",
    "LOAD DATA INPATH '/etc/passwd' INTO TABLE metrics",
    "INSTALL httpfs",
    "ATTACH DATABASE '/etc/passwd' AS d",
    "USE system",
    "CALL f()",
    "DO $$ BEGIN END $$",
    "LISTEN x",
    "NOTIFY x",
    "LOCK TABLE metrics",
    "COMMENT ON TABLE metrics IS 'x'",
    "SET datafusion.catalog.location = '/etc'",
    "SET ROLE postgres",
    // ClickHouse's own.
    "SYSTEM SHUTDOWN",
    "SYSTEM FLUSH LOGS",
    "KILL QUERY WHERE 1",
    "OPTIMIZE TABLE metrics FINAL",
    "DETACH TABLE metrics",
    "RENAME TABLE metrics TO m",
    "EXCHANGE TABLES metrics AND metrics_1s",
    "BACKUP TABLE metrics TO Disk('x', 'y')",
    "SELECT 1 INTO OUTFILE '/tmp/streamgauge-read-only.csv'",
    "SELECT 1 FORMAT TabSeparated",
    "SELECT 1 SETTINGS readonly = 0",
    "SELECT 1; DROP TABLE metrics",
];

/// What would read files, addresses, the environment or other servers, as functions and as names of tables.
const READS: &[&str] = &[
    "read_csv('/etc/passwd')",
    "read_parquet('/etc/passwd')",
    "read_json('/etc/passwd')",
    "read_text('/etc/passwd')",
    "read_blob('/etc/passwd')",
    "parquet_metadata('/etc/passwd')",
    "glob('/etc/*')",
    "file('/etc/passwd')",
    "url('http://127.0.0.1/', 'CSV', 'x String')",
    "s3('http://127.0.0.1/x.csv')",
    "hdfs('hdfs://x')",
    "remote('127.0.0.1', 'system.one')",
    "cluster('default', 'system.one')",
    "mysql('127.0.0.1', 'd', 't', 'u', 'p')",
    "postgresql('127.0.0.1', 'd', 't', 'u', 'p')",
    "sqlite('/etc/passwd', 't')",
    "jdbc('x', 'y', 'z')",
    "executable('id', 'TabSeparated', 'x String')",
    "input('x String')",
    "merge('system', '.*')",
    "dictionary('d')",
    "numbers(1)",
    "pg_read_file('/etc/passwd')",
    "pg_read_binary_file('/etc/passwd')",
    "pg_ls_dir('/etc')",
    "pg_stat_file('/etc/passwd')",
    "pg_reload_conf()",
    "pg_sleep(1)",
    "lo_import('/etc/passwd')",
    "lo_export(1, '/tmp/streamgauge-read-only.csv')",
    "dblink('host=127.0.0.1', 'SELECT 1')",
    "query_to_xml('SELECT 1', true, true, '')",
    "getenv('PATH')",
    "hostName()",
    "getSetting('max_threads')",
    "dictGet('d', 'a', 1)",
    "load_extension('x')",
    "\"/etc/passwd\"",
    "'/etc/passwd'",
    "\"http://127.0.0.1/x.csv\"",
    "system.processes",
    "system.users",
    "system.tables",
    "streamgauge_default.metrics",
    "default.metrics",
    "streamgauge.system.one",
    "metrics_states",
    "streamgauge_flushed",
];

#[tokio::test]
async fn statements_only_read() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    accepted(&client.post_json("/v1/metrics", &json!({"name": "cpu", "value": 1})).await, 1);
    let postgres = connect(&program).await;
    let before = client.sql("SELECT name, value FROM metrics").await;
    let refused = async |sql: &str| {
        let answer = client.post_json("/api/v1/sql", &json!({"sql": sql})).await;
        let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
        let wrong = ["statement_not_allowed", "sql_invalid", "table_unknown", "setting_unknown"];
        assert!(answer.status == 400 && wrong.contains(&code.as_str()), "{sql}: {} {}", answer.status, answer.text());
        // The protocol has statements of its own (COPY, SET, PREPARE); none of these is one that it takes.
        if let Ok(messages) = postgres.simple_query(sql).await {
            panic!("{sql} was answered: {messages:?}");
        }
        assert!(postgres.query_one("SELECT 1", &[]).await.is_ok(), "{sql}: the session goes on");
    };
    for sql in STATEMENTS {
        refused(sql).await;
    }
    for read in READS {
        refused(&format!("SELECT * FROM {read}")).await;
        if read.ends_with(')') {
            refused(&format!("SELECT {read}")).await;
        }
    }
    // Nothing that is there is named like one that writes or reads what is outside.
    let named = "SELECT DISTINCT routine_name FROM information_schema.routines WHERE \
                 routine_name ~ '(file|url|http|env|exec|load|read|write|import|export|copy|dblink|shell|sleep)' ORDER BY 1";
    // These two name the file that a row was read from, and rows are read from none.
    assert_eq!(client.sql(named).await, json!([["file_row_index"], ["input_file_name"]]));
    // Texts and names stay texts and names in what ClickHouse is asked.
    eventually_flushed(client).await;
    for name in
        ["' OR 1=1 --", "\\' OR 1=1 --", "'; DROP TABLE metrics; --", "') UNION ALL SELECT 1 FROM system.users --"]
    {
        let sql = format!("SELECT count(*) FROM metrics WHERE name = '{}'", name.replace('\'', "''"));
        assert_eq!(client.sql(&sql).await, json!([[0.0]]), "{sql}");
    }
    assert_eq!(client.sql("SELECT name, value FROM metrics").await, before);
    assert!(!std::path::Path::new("/tmp/streamgauge-read-only.csv").exists());
}

async fn eventually_flushed(client: &crate::support::Client) {
    crate::support::eventually("the event is in ClickHouse", json!([[0.0]]), || {
        client.sql("SELECT memory_rows FROM system.streams WHERE stream = 'metrics'")
    })
    .await;
}
