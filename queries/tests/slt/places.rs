//! The same rows in each of the places, and in tables of DataFusion alone.

use arrow::array::RecordBatch;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use streamgauge_engine::decode::{DecodeLimits, Format, decode_metrics, decode_table};
use streamgauge_queries::{QueryLimits, timeseries};
use streamgauge_schemas::stream::Stream;
use streamgauge_schemas::time::wall_clock;
use streamgauge_schemas::{Column, ColumnType, Epoch, EventBatch, StreamDefinition, StreamId};

use crate::answers::{Asker, Of, table};
use crate::support::World;

/// All streams with rows.
pub(crate) const STREAMS: [&str; 3] = ["metrics", "readings", "sites"];

const OWN: [(&str, &[(&str, ColumnType)]); 2] = [
    (
        "readings",
        &[
            ("at", ColumnType::Timestamp),
            ("id", ColumnType::I64),
            ("site", ColumnType::Text),
            ("word", ColumnType::Text),
            ("n", ColumnType::I64),
            ("x", ColumnType::F64),
            ("ok", ColumnType::Bool),
            ("seen", ColumnType::Timestamp),
            ("doc", ColumnType::Json),
        ],
    ),
    (
        "sites",
        &[
            ("since", ColumnType::Timestamp),
            ("site", ColumnType::Text),
            ("region", ColumnType::Text),
            ("capacity", ColumnType::I64),
        ],
    ),
];

/// A view, by its name and `SELECT`; to DataFusion alone it is a view that keeps nothing.
const VIEWS: [(&str, &str); 3] = [
    (
        "by_hour",
        "SELECT site, date_trunc('hour', at) AS hour, count(*) AS events, count(n) AS counted, sum(x) AS total, min(n) AS least, \
         max(word) AS latest, avg(x) AS mean, approx_percentile_cont(x, 0.5) AS half, count(DISTINCT word) AS words \
         FROM readings WHERE abs(x) < 1e9 GROUP BY site, date_trunc('hour', at)",
    ),
    (
        "by_day_in_rome",
        "SELECT time_bucket('1 day', at, 'Europe/Rome') AS day, site, count(*) AS events, first(id, at) AS earliest, \
         last(id, at) FILTER (WHERE ok) AS latest FROM readings WHERE id > 30 GROUP BY time_bucket('1 day', at, 'Europe/Rome'), site",
    ),
    ("of_truth", "SELECT ok, count(*) AS events, max(at) AS newest FROM readings GROUP BY ok"),
];

fn definition(name: &str, columns: &[(&str, ColumnType)]) -> StreamDefinition {
    let column = |(name, kind): &(&str, ColumnType)| Column { name: (*name).into(), kind: *kind };
    StreamDefinition {
        name: name.into(),
        time_column: columns[0].0.into(),
        columns: columns.iter().map(column).collect(),
        order_by: Vec::new(),
        retention: None,
    }
}

/// The events of a stream in two batches, by turns.
fn batches(stream: &Stream) -> [EventBatch; 2] {
    let name = &stream.definition.name;
    let path = crate::folder().join(format!("rows/{name}.ndjson"));
    let text = std::fs::read_to_string(&path).unwrap();
    [0, 1].map(|half| {
        let lines: Vec<&str> = text.lines().skip(half).step_by(2).collect();
        let (body, limits) = (lines.join("\n"), DecodeLimits::at(wall_clock()));
        let decoded = match stream.id {
            StreamId::METRICS => decode_metrics(body.as_bytes(), Format::Ndjson, &limits),
            _ => decode_table(body.as_bytes(), Format::Ndjson, stream, &limits),
        };
        let decoded = decoded.unwrap();
        assert!(decoded.rejected.is_empty(), "{}: {:?}", path.display(), decoded.rejected);
        decoded.batch.unwrap()
    })
}

/// The streams of a world, or of none.
fn stream(id: StreamId, name: &str) -> Stream {
    let columns = OWN.iter().find(|(own, _)| *own == name).map_or(&[("ts", ColumnType::Timestamp)][..], |own| own.1);
    Stream { id, definition: definition(name, columns) }
}

/// The rows laid out in each place, with the worlds that hold them; and DataFusion alone. The databases of the worlds begin with `name`.
pub(crate) async fn places(name: &str) -> (Vec<(Asker, World)>, Asker) {
    let mut places = Vec::new();
    for place in ["memory", "history", "seam", "flushed"] {
        let world = World::with(
            &format!("{name}_{place}"),
            QueryLimits { cache_bytes_max: 8 << 20, ..QueryLimits::default() },
            2,
        )
        .await;
        fill(place, &world).await;
        places.push((Asker { place, of: Of::Ours(world.queries.clone()) }, world));
    }
    (places, Asker { place: "datafusion", of: Of::Plain(plain().await) })
}

async fn fill(place: &str, world: &World) {
    let mut ids = vec![("metrics", StreamId::METRICS)];
    for (name, columns) in OWN {
        ids.push((name, world.engine.create_stream(definition(name, columns)).await.unwrap().0.id));
    }
    for (name, select) in VIEWS {
        let sql = format!("CREATE MATERIALIZED VIEW {name} WITH (backfill = false) AS {select}");
        world.rows(&sql).await.unwrap();
    }
    let halves: Vec<[EventBatch; 2]> = ids.iter().map(|(name, id)| batches(&stream(*id, name))).collect();
    for half in [0, 1] {
        for batches in &halves {
            world.engine.append(batches[half].clone()).await.unwrap();
        }
        match (place, half) {
            ("seam" | "flushed", 0) | ("history", 1) => world.bury().await,
            ("flushed", 1) => world.flush().await, // in ClickHouse; of views, in memory too
            _ => {}
        }
    }
}

/// DataFusion, set up as a session of ours is, over tables in memory.
async fn plain() -> SessionContext {
    let mut config = SessionConfig::new().with_default_catalog_and_schema("streamgauge", "public");
    config.options_mut().execution.time_zone = Some("UTC".into());
    let state = SessionStateBuilder::new().with_default_features().with_config(config);
    let mut state = timeseries::with_planner(state).build();
    datafusion_functions_json::register_all(&mut state).unwrap();
    timeseries::register(&mut state).unwrap();
    let context = SessionContext::new_with_state(state);
    for name in STREAMS {
        let id = if name == "metrics" { StreamId::METRICS } else { StreamId(Epoch(1_000).0) };
        let rows: Vec<RecordBatch> = batches(&stream(id, name)).iter().map(EventBatch::to_record_batch).collect();
        context.register_table(name, table(rows[0].schema(), rows)).unwrap();
    }
    for (name, select) in VIEWS {
        context.sql(&format!("CREATE VIEW {name} AS {select}")).await.unwrap();
    }
    context
}
