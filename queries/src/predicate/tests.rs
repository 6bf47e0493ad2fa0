use arrow::datatypes::Field;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::{cast, lit};
use datafusion::prelude::col;
use std::sync::Arc;

use streamgauge_engine::{KeyFilter, RowFilter};
use streamgauge_schemas::{Key, Series};

use super::*;

fn schema() -> Schema {
    Schema::new(vec![
        Field::new("bucket", timestamp_type(), false),
        Field::new("name", DataType::Utf8, false),
        Field::new("dimensions", dimensions_type(), false),
        Field::new("value", DataType::Float64, false),
        Field::new("seats", DataType::Int64, true),
        Field::new("full", DataType::Boolean, true),
    ])
}

fn micros(micros: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())))
}

fn nanos(nanos: i64) -> Expr {
    lit(ScalarValue::TimestampNanosecond(Some(nanos), Some("+00:00".into())))
}

fn host() -> Expr {
    get_field(col("dimensions"), "host")
}

fn sql(expr: &Expr) -> Option<String> {
    let mut sql = String::new();
    Predicate::of(expr, &schema())?.write_sql("t", &mut sql);
    Some(sql)
}

#[test]
fn what_is_sent_to_clickhouse() {
    let host_sql = "if(mapContains(t.`dimensions`, 'host'), t.`dimensions`['host'], NULL)";
    let time = |micros: i64| clickhouse::time(EventTime(micros));
    let bucket_nanos = || cast(col("bucket"), DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())));
    let cases: Vec<(Expr, Option<String>)> = vec![
        (col("name").eq(lit("it's")), Some("t.`name` = 'it\\'s'".into())),
        (lit("a").lt(col("name")), Some("t.`name` > 'a'".into())),
        (col("name").in_list(vec![lit("a"), lit("b")], true), Some("NOT (t.`name` IN ('a', 'b'))".into())),
        (col("name").like(lit("a.b%")), Some("startsWith(t.`name`, 'a.b')".into())),
        (col("name").like(lit("a_b%")), None),
        (col("name").ilike(lit("ab%")), None),
        (host().eq(lit("a")), Some(format!("{host_sql} = 'a'"))),
        (host().is_null(), Some("NOT mapContains(t.`dimensions`, 'host')".into())),
        (host().is_not_null(), Some("NOT (NOT mapContains(t.`dimensions`, 'host'))".into())),
        (host().eq(lit("a")).or(col("full")), Some(format!("({host_sql} = 'a' OR t.`full`)"))),
        (host().eq(lit("a")).or(col("value").eq(col("value"))), None),
        (col("bucket").gt_eq(micros(5)), Some(format!("t.`bucket` >= {}", time(5)))),
        (col("bucket").gt_eq(micros(i64::MAX)), None),
        (
            col("bucket").between(micros(1), micros(2)),
            Some(format!("(t.`bucket` >= {} AND t.`bucket` <= {})", time(1), time(2))),
        ),
        (bucket_nanos().lt(nanos(1_500)), Some(format!("t.`bucket` <= {}", time(1)))),
        (bucket_nanos().lt(nanos(2_000)), Some(format!("t.`bucket` < {}", time(2)))),
        (bucket_nanos().gt_eq(nanos(1_500)), Some(format!("t.`bucket` > {}", time(1)))),
        (bucket_nanos().gt_eq(nanos(-500)), Some(format!("t.`bucket` > {}", time(-1)))),
        (bucket_nanos().eq(nanos(1_500)), None),
        (col("value").gt(lit(1.5)), Some("t.`value` > 1.5e0".into())),
        (col("value").gt(lit(0.0)), None),
        (col("value").gt(lit(-0.0)), None),
        (col("value").eq(lit(f64::NAN)), None),
        (col("seats").lt_eq(lit(i64::MIN)), Some(format!("t.`seats` <= toInt64({})", i64::MIN))),
        (col("seats").is_null(), Some("t.`seats` IS NULL".into())),
        (col("seats").eq(lit(ScalarValue::Int64(None))), None),
        (Expr::Not(Box::new(col("full"))), Some("NOT (t.`full`)".into())),
    ];
    for (expr, expected) in cases {
        assert_eq!(sql(&expr), expected, "{expr}");
    }
}

#[test]
fn what_memory_is_asked_for() {
    let understood = |exprs: &[Expr]| exprs.iter().filter_map(|e| Predicate::of(e, &schema())).collect::<Vec<_>>();
    let filter = |exprs: &[Expr]| series_filter(&understood(exprs), "name", "dimensions");
    let series = Series::new("cpu", [("host", "a")]);
    let bare = Series::new("cpu", Vec::<(String, String)>::new());
    let other = Series::new("mem", [("host", "a")]);
    let cases: Vec<(Expr, [bool; 3])> = vec![
        (col("name").eq(lit("cpu")), [true, true, false]),
        (col("name").not_eq(lit("cpu")), [false, false, true]),
        (host().eq(lit("a")), [true, false, true]),
        (host().not_eq(lit("b")), [true, false, true]),
        (Expr::Not(Box::new(host().eq(lit("b")))), [true, false, true]),
        (host().is_null(), [false, true, false]),
        (host().in_list(vec![lit("a")], true), [false, false, false]),
        (host().eq(lit("b")).or(col("name").eq(lit("mem"))), [false, false, true]),
        (host().gt(lit("A")).and(col("name").like(lit("c%"))), [true, false, false]),
        (col("bucket").eq(micros(1)).or(host().eq(lit("b"))), [true, true, true]), // left to DataFusion
    ];
    for (expr, expected) in cases {
        let filter = filter(std::slice::from_ref(&expr));
        assert_eq!(
            [&series, &bare, &other].map(|series| filter.matches(&Key::Series(Arc::new((*series).clone())))),
            expected,
            "{expr}"
        );
    }
    let both = filter(&[col("name").eq(lit("cpu")), host().eq(lit("a"))]);
    assert!(matches!(&both, KeyFilter::NameAnd(name, _) if name == "cpu"));
    assert_eq!(
        [&series, &bare, &other].map(|series| both.matches(&Key::Series(Arc::new((*series).clone())))),
        [true, false, false]
    );
}

#[test]
fn buckets_that_memory_is_asked_for() {
    let bounds = |exprs: &[Expr]| {
        let mut filter = RowFilter::default();
        let predicates: Vec<Predicate> = exprs.iter().filter_map(|e| Predicate::of(e, &schema())).collect();
        bucket_range(&predicates, "bucket", &mut filter);
        (filter.lower.map(|t| t.0), filter.upper.map(|t| t.0))
    };
    let bucket = || col("bucket");
    assert_eq!(bounds(&[]), (None, None));
    assert_eq!(bounds(&[bucket().gt(micros(5)), bucket().lt_eq(micros(9))]), (Some(6), Some(10)));
    assert_eq!(
        bounds(&[bucket().gt_eq(micros(5)), bucket().gt_eq(micros(3)), bucket().lt(micros(9))]),
        (Some(5), Some(9))
    );
    assert_eq!(bounds(&[bucket().eq(micros(5))]), (Some(5), Some(6)));
    assert_eq!(bounds(&[bucket().between(micros(5), micros(7))]), (Some(5), Some(8)));
    assert_eq!(bounds(&[bucket().not_between(micros(5), micros(7))]), (None, None));
    assert_eq!(bounds(&[bucket().eq(micros(5)).or(bucket().eq(micros(7)))]), (None, None));
}

#[test]
fn bounds_of_buckets_are_buckets() {
    let width = Duration::from_micros(60);
    let comparisons = [
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ];
    let of =
        |comparison, time| Predicate::Compare(Operand::Column("b".into()), comparison, Value::Time(EventTime(time)));
    let holds = |predicate: &Predicate, bucket: i64| {
        let Predicate::Compare(Operand::Column(_), comparison, Value::Time(time)) = predicate else { panic!() };
        match comparison {
            Comparison::Equal => bucket == time.0,
            Comparison::NotEqual => bucket != time.0,
            Comparison::Less => bucket < time.0,
            Comparison::LessOrEqual => bucket <= time.0,
            Comparison::Greater => bucket > time.0,
            Comparison::GreaterOrEqual => bucket >= time.0,
        }
    };
    for comparison in comparisons {
        for time in -130..=130 {
            let aligned = of(comparison, time).aligned("b", width);
            for bucket in (-300..=300).step_by(60) {
                assert_eq!(
                    holds(&aligned, bucket),
                    holds(&of(comparison, time), bucket),
                    "{comparison:?} {time} {bucket}"
                );
            }
        }
    }
    // Between two buckets every time is the same bound; those of other columns stay.
    let both =
        |time| Predicate::And(Box::new(of(Comparison::GreaterOrEqual, time)), Box::new(of(Comparison::Less, 200)));
    assert_eq!(both(61).aligned("b", width), both(119).aligned("b", width));
    assert_ne!(both(60).aligned("b", width), both(61).aligned("b", width));
    assert_eq!(both(61).aligned("c", width), both(61));
}
