//! `time_bucket(width, ts [, origin] [, zone])`: the beginning of the bucket that a time is in. `date_bin` with a zone, its
//! fourth argument, is the same with DataFusion's own origin.
//!
//! | | begins at | weeks begin on |
//! |---|---|---|
//! | `date_bin` | 1970-01-01 | a Thursday |
//! | `time_bucket` | 2000-01-03, months at 2000-01-01 | a Monday |
//!
//! An origin without a zone or an offset of its own is a time on the wall clock of the zone. What needs no zone is simplified
//! to DataFusion's `date_bin`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{
    ArrowTimestampType, DataType, IntervalUnit, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
};

use super::buckets::{Buckets, OUT_OF_RANGE, Width, zone};

/// Its name.
pub(super) const TIME_BUCKET: &str = "time_bucket";
const DATE_BIN: &str = "date_bin";
const FORMS: &str = "it is called as time_bucket(width, ts [, origin] [, zone]), such as time_bucket('1 day', ts, 'Europe/Rome'); \
                     all but ts are constants";

/// The functions, for a session.
pub(super) fn functions() -> [Arc<ScalarUDF>; 2] {
    [function(TIME_BUCKET), function(DATE_BIN)]
}

/// The function of that name.
pub(super) fn function(name: &'static str) -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::from(TimeBucket { name, signature }))
}

fn plan_error(message: impl Into<String>) -> DataFusionError {
    DataFusionError::Plan(message.into())
}

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeBucket {
    name: &'static str,
    signature: Signature,
}

impl TimeBucket {
    /// Whether this is a call of `date_bin` as DataFusion knows it.
    fn is_plain_date_bin(&self, arguments: usize) -> bool {
        self.name == DATE_BIN && arguments < 4
    }

    fn buckets(&self, constants: &[Option<ScalarValue>], unit: TimeUnit) -> Result<Buckets> {
        let mut constants = constants.iter().map(|constant| constant.as_ref().ok_or_else(|| plan_error(FORMS)));
        let width = constants.next().ok_or_else(|| plan_error(FORMS))??;
        let rest: Vec<&ScalarValue> = constants.skip(1).collect::<Result<_>>()?;
        let mut spec = Spec::new(width, unit)?;
        if self.name == DATE_BIN {
            spec.default_origin = 0;
        }
        rest.into_iter().try_for_each(|argument| spec.take(argument))?;
        spec.buckets()
    }
}

/// What a call says of its buckets.
pub(super) struct Spec {
    width: Width,
    unit: TimeUnit,
    default_origin: i64,
    origin: Option<ScalarValue>,
    zone: Option<String>,
}

impl Spec {
    /// Of a constant width, over times of a unit.
    pub(super) fn new(width: &ScalarValue, unit: TimeUnit) -> Result<Self> {
        let width = length(width, unit)?;
        let default_origin = Buckets::default_origin(width, per_second(unit));
        Ok(Spec { width, unit, default_origin, origin: None, zone: None })
    }

    /// An origin or a zone, by its type; a text is a zone if it names one.
    pub(super) fn take(&mut self, argument: &ScalarValue) -> Result<()> {
        match argument.try_as_str() {
            Some(Some(name)) if self.zone.is_none() && zone(name).is_ok() => self.zone = Some(name.to_owned()),
            Some(Some(text)) if !text.contains(|c: char| c.is_ascii_digit()) => {
                return Err(plan_error(zone(text).err().unwrap_or_else(|| FORMS.to_owned())));
            }
            Some(None) => return Err(plan_error(FORMS)),
            _ if self.origin.is_none() && !argument.is_null() => self.origin = Some(argument.clone()),
            _ => return Err(plan_error(FORMS)),
        }
        Ok(())
    }

    pub(super) fn buckets(self) -> Result<Buckets> {
        let per_second = per_second(self.unit);
        if self.zone.is_some() && matches!(self.width, Width::Units(width) if width < per_second) {
            return Err(plan_error("a bucket in a time zone is a second long, or longer"));
        }
        let origin = match &self.origin {
            None => self.default_origin,
            Some(origin) => local_time(origin, self.zone.as_deref().unwrap_or("UTC"), self.unit)?,
        };
        let zone = self.zone.filter(|zone| !is_utc(zone)).map(Arc::from);
        Ok(Buckets { width: self.width, origin, zone, per_second })
    }
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "+00:00" | "Etc/UTC" | "GMT")
}

/// Units in a second.
pub(super) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

fn length(width: &ScalarValue, unit: TimeUnit) -> Result<Width> {
    let interval = width.cast_to(&DataType::Interval(IntervalUnit::MonthDayNano)).map_err(|_| {
        plan_error(format!("{width} is not the length of a bucket; write an interval such as '15 minutes'"))
    })?;
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = interval else { return Err(plan_error(FORMS)) };
    let nanos = i128::from(interval.days) * 86_400_000_000_000 + i128::from(interval.nanoseconds);
    let in_unit = i128::from(1_000_000_000 / per_second(unit));
    match (interval.months, nanos) {
        (0, nanos) if nanos > 0 && nanos % in_unit == 0 => i64::try_from(nanos / in_unit).map(Width::Units).ok(),
        (months, 0) if months > 0 => u32::try_from(months).map(Width::Months).ok(),
        _ => None,
    }
    .ok_or_else(|| {
        let units = format!("{unit:?}").to_lowercase();
        plan_error(format!(
            "the length of a bucket is a positive interval, either of months or of days and shorter, in whole {units}s"
        ))
    })
}

/// A time on the wall clock of a zone; one without a zone of its own is on it already.
fn local_time(time: &ScalarValue, in_zone: &str, unit: TimeUnit) -> Result<i64> {
    let bad = || plan_error(format!("{time} is neither a time zone nor a time that buckets could begin at; {FORMS}"));
    let tz = zone(in_zone).map_err(plan_error)?;
    let local = match time.try_as_str() {
        Some(text) => {
            let time = string_to_datetime(&tz, text.ok_or_else(bad)?).map_err(|_| bad())?.naive_local().and_utc();
            ScalarValue::TimestampMicrosecond(Some(time.timestamp_micros()), None)
        }
        None => match time.data_type() {
            DataType::Timestamp(of, Some(_)) => {
                time.cast_to(&DataType::Timestamp(of, Some(in_zone.into())))?.cast_to(&DataType::Timestamp(of, None))?
            }
            _ => time.clone(),
        },
    };
    match local.cast_to(&DataType::Timestamp(unit, None)).map_err(|_| bad())? {
        ScalarValue::TimestampSecond(Some(value), _)
        | ScalarValue::TimestampMillisecond(Some(value), _)
        | ScalarValue::TimestampMicrosecond(Some(value), _)
        | ScalarValue::TimestampNanosecond(Some(value), _) => Ok(value),
        _ => Err(bad()),
    }
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        if self.is_plain_date_bin(arguments.len()) {
            let field = |kind: &DataType| Arc::new(arrow::datatypes::Field::new("", kind.clone(), true));
            let fields: Vec<_> = arguments.iter().map(field).collect();
            let inner = datafusion::functions::datetime::date_bin();
            let fields = fields_with_udf(&fields, inner.as_ref())?;
            return Ok(fields.iter().map(|field| field.data_type().clone()).collect());
        }
        let [_, time, rest @ ..] = arguments else { return Err(plan_error(FORMS)) };
        let time = time_type(time).ok_or_else(|| plan_error(format!("{time} is no time; {FORMS}")))?;
        let given = rest.iter().map(|kind| match kind {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Timestamp(..) => Ok(kind.clone()),
            DataType::Date32 | DataType::Date64 => Ok(DataType::Timestamp(TimeUnit::Microsecond, None)),
            other => Err(plan_error(format!("{other} is neither a time zone nor an origin; {FORMS}"))),
        });
        let given: Vec<DataType> = given.collect::<Result<_>>()?;
        if given.len() > 2 {
            return Err(plan_error(FORMS));
        }
        Ok([DataType::Interval(IntervalUnit::MonthDayNano), time].into_iter().chain(given).collect())
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        arguments.get(1).cloned().ok_or_else(|| plan_error(FORMS))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.is_plain_date_bin(args.args.len()) {
            return datafusion::functions::datetime::date_bin().invoke_with_args(args);
        }
        let constants: Vec<Option<ScalarValue>> = args.args.iter().map(constant).collect();
        let time = args.args.get(1).ok_or_else(|| plan_error(FORMS))?;
        let unit = unit_of(&time.data_type())?;
        let buckets = self.buckets(&constants, unit)?;
        match time {
            ColumnarValue::Array(times) => Ok(ColumnarValue::Array(starts(&buckets, times)?)),
            ColumnarValue::Scalar(time) => {
                let start = starts(&buckets, &time.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&start, 0)?))
            }
        }
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if self.is_plain_date_bin(args.len()) {
            let inner = datafusion::functions::datetime::date_bin();
            return Ok(ExprSimplifyResult::Simplified(Expr::ScalarFunction(ScalarFunction::new_udf(inner, args))));
        }
        let literal = |arg: &Expr| arg.as_literal().cloned();
        let constants: Vec<Option<ScalarValue>> = args.iter().map(literal).collect();
        if args.len() < 2 || constants.iter().enumerate().any(|(at, constant)| at != 1 && constant.is_none()) {
            return Ok(ExprSimplifyResult::Original(args));
        }
        let DataType::Timestamp(unit, zone) = info.get_data_type(&args[1])? else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        let buckets = self.buckets(&constants, unit)?;
        match plain(&buckets, zone.is_some()) {
            None => Ok(ExprSimplifyResult::Original(args)),
            Some(origin) => {
                let mut args = args;
                args.truncate(2);
                // DataFusion's function counts times with a zone in nanoseconds, whatever they were counted in.
                args[1] = cast(args[1].clone(), DataType::Timestamp(TimeUnit::Nanosecond, zone.clone()));
                args.extend(origin.map(|origin| Expr::Literal(origin, None)));
                let inner = datafusion::functions::datetime::date_bin();
                let call = Expr::ScalarFunction(ScalarFunction::new_udf(inner, args));
                Ok(ExprSimplifyResult::Simplified(cast(call, DataType::Timestamp(unit, zone))))
            }
        }
    }

    /// A wall clock that is put back does not take a later time to an earlier bucket of a length that divides what is
    /// repeated; of others it may, so only buckets in UTC keep the order.
    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        match self.is_plain_date_bin(input.len()) {
            true => datafusion::functions::datetime::date_bin().output_ordering(input),
            false => Ok(SortProperties::Unordered),
        }
    }
}

/// The type that a time is read as.
pub(super) fn time_type(of: &DataType) -> Option<DataType> {
    match of {
        DataType::Timestamp(..) => Some(of.clone()),
        DataType::Date32 | DataType::Date64 => Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            Some(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
        }
        _ => None,
    }
}

fn constant(value: &ColumnarValue) -> Option<ScalarValue> {
    match value {
        ColumnarValue::Scalar(scalar) => Some(scalar.clone()),
        ColumnarValue::Array(_) => None,
    }
}

/// The unit of a type of times.
pub(super) fn unit_of(kind: &DataType) -> Result<TimeUnit> {
    match kind {
        DataType::Timestamp(unit, _) => Ok(*unit),
        other => Err(plan_error(format!("{other} is no time; {FORMS}"))),
    }
}

/// The origin for DataFusion's `date_bin`, if it says the same; none if its own will do.
fn plain(buckets: &Buckets, with_zone: bool) -> Option<Option<ScalarValue>> {
    if buckets.zone.is_some() {
        return None;
    }
    let by_default = match buckets.width {
        Width::Units(width) => buckets.origin % width == 0,
        Width::Months(months) => buckets.origin == 10_957 * 86_400 * buckets.per_second && 360 % months == 0,
    };
    if by_default {
        return Some(None);
    }
    let nanos = buckets.origin.checked_mul(1_000_000_000 / buckets.per_second)?;
    Some(Some(ScalarValue::TimestampNanosecond(Some(nanos), with_zone.then(|| "UTC".into()))))
}

/// The beginnings of the buckets of times.
fn starts(buckets: &Buckets, times: &ArrayRef) -> Result<ArrayRef> {
    fn of<T: ArrowTimestampType>(buckets: &Buckets, times: &ArrayRef) -> Result<ArrayRef> {
        let clock = buckets.clock().map_err(plan_error)?;
        let start = |time| clock.start_of(time).ok_or_else(|| DataFusionError::Execution(OUT_OF_RANGE.into()));
        let starts: PrimitiveArray<T> = times.as_primitive::<T>().try_unary(start)?;
        Ok(Arc::new(starts.with_data_type(times.data_type().clone())))
    }
    match unit_of(times.data_type())? {
        TimeUnit::Second => of::<TimestampSecondType>(buckets, times),
        TimeUnit::Millisecond => of::<TimestampMillisecondType>(buckets, times),
        TimeUnit::Microsecond => of::<TimestampMicrosecondType>(buckets, times),
        TimeUnit::Nanosecond => of::<TimestampNanosecondType>(buckets, times),
    }
}
