use clap::Parser;

use super::*;

#[derive(Parser)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) serve: ServeArgs,
}

fn resolve(arguments: &[&str]) -> Result<Config, String> {
    let cli =
        Cli::try_parse_from(std::iter::once("serve").chain(arguments.iter().copied())).map_err(|e| e.to_string())?;
    cli.serve.resolve().map_err(|error| format!("{error:#}"))
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("streamgauge.toml");
    std::fs::write(&file, "workers = 3\nskew_max = \"1h\"\nlog_format = \"json\"\n").unwrap();
    let config = resolve(&["--config", file.to_str().unwrap(), "--workers", "2"]).unwrap();
    assert_eq!((config.workers, config.skew_max, config.log_format), (2, Duration::from_secs(3600), LogFormat::Json));
    assert_eq!(config.http, Config::default().http);
}

#[test]
fn mistakes_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("streamgauge.toml");
    std::fs::write(&file, "wrokers = 3\n").unwrap();
    for (arguments, words) in [
        (vec!["--http", "0.0.0.0:8080"], "loopback only"),
        (vec!["--http-hosts", "a,http://b"], "http_hosts has \"http://b\""),
        (vec!["--http-hosts", ""], "http_hosts has \"\""),
        (vec!["--pg", "0.0.0.0:5433"], "STREAMGAUGE_PG_PASSWORD"),
        (vec!["--pg", "5433"], "neither an address"),
        (vec!["--pg-password", ""], "pg_password is empty"),
        (vec!["--pg-tls-cert", "cert.pem"], "belong together"),
        (vec!["--pg-connections-max", "0"], "pg_connections_max"),
        (vec!["--flight", "0.0.0.0:50051"], "STREAMGAUGE_FLIGHT_PASSWORD"),
        (vec!["--flight", "50051"], "neither an address"),
        (vec!["--flight-password", ""], "flight_password is empty"),
        (vec!["--flight-tls-key", "key.pem"], "belong together"),
        (vec!["--flight-connections-max", "0"], "flight_connections_max"),
        (vec!["--workers", "0"], "use 1 to 64"),
        (vec!["--queries-max", "0"], "queries_max = 0"),
        (vec!["--user-queries-max", "0"], "user_queries_max = 0"),
        (vec!["--query-rows-max", "0"], "query_rows_max = 0"),
        (vec!["--skew-max", "5"], "not a duration"),
        (vec!["--inflight-bytes-max", "1000"], "at least body_bytes_max"),
        (vec!["--log-bytes-max", "1000"], "four segments"),
        (vec!["--log-segment-bytes-max", "1000"], "use at least 4096"),
        (vec!["--requests-max", "0"], "use 1 to"),
        (vec!["--idempotency-window", "31d"], "use at most 30d"),
        (vec!["--config", "/no/such/file.toml"], "is not there"),
        (vec!["--config", file.to_str().unwrap()], "wrokers"),
        (vec!["--clickhouse-url", "http://a:1", "--clickhouse-binary", "b"], "choose one"),
    ] {
        let error = resolve(&arguments).unwrap_err();
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
    assert!(resolve(&["--http", "0.0.0.0:8080", "--allow-remote"]).is_ok());
    assert!(resolve(&["--pg", "0.0.0.0:5433", "--pg-password", "secret"]).is_ok());
    assert!(resolve(&["--flight", "0.0.0.0:50051", "--flight-password", "secret"]).is_ok());
    std::fs::write(&file, "pg = \"off\"\nflight = \"off\"\nhttp_hosts = [\"a\", \"b.c\"]\n").unwrap();
    let config = resolve(&["--config", file.to_str().unwrap()]).unwrap();
    assert_eq!((config.pg, config.flight), (PgAddress::Off, PgAddress::Off));
    let shown = config.settings.iter().find(|setting| setting.name == "http_hosts").unwrap();
    assert_eq!((shown.value.as_deref(), shown.source), (Some("a,b.c"), "file"));
    assert_eq!(resolve(&["--http-hosts", "a,d"]).unwrap().http_hosts, ["a", "d"]);
}
