//! Types of PostgreSQL: what clients are told about columns and parameters.
//!
//! Integers without a sign are told as the signed ones that hold most of them; whoever writes values says so when one
//! does not fit. What has parts (maps, structs, lists of such) is `json`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use streamgauge_schemas::stream::timestamp_type;

/// A type of PostgreSQL.
#[derive(Debug, PartialEq, Eq)]
pub struct PostgresType {
    /// Its number, the same in every PostgreSQL.
    pub oid: u32,
    /// Its short name, such as `int8`.
    pub name: &'static str,
    /// Its name in SQL, such as `bigint`.
    pub sql: &'static str,
    /// The bytes of a value; -1 when they differ.
    pub length: i16,
    /// The number of the type of arrays of it; 0 when there is none.
    pub array: u32,
    /// The kind of type, as `pg_type.typcategory` has it.
    pub category: char,
}

const fn kind(
    oid: u32,
    name: &'static str,
    sql: &'static str,
    length: i16,
    array: u32,
    category: char,
) -> PostgresType {
    PostgresType { oid, name, sql, length, array, category }
}

/// Those that there are, arrays apart.
pub const TYPES: [PostgresType; 26] = [
    kind(16, "bool", "boolean", 1, 1000, 'B'),
    kind(17, "bytea", "bytea", -1, 1001, 'U'),
    kind(18, "char", "\"char\"", 1, 1002, 'Z'),
    kind(19, "name", "name", 64, 1003, 'S'),
    kind(20, "int8", "bigint", 8, 1016, 'N'),
    kind(21, "int2", "smallint", 2, 1005, 'N'),
    kind(23, "int4", "integer", 4, 1007, 'N'),
    kind(24, "regproc", "regproc", 4, 1008, 'N'),
    kind(25, "text", "text", -1, 1009, 'S'),
    kind(26, "oid", "oid", 4, 1028, 'N'),
    kind(114, "json", "json", -1, 199, 'U'),
    kind(700, "float4", "real", 4, 1021, 'N'),
    kind(701, "float8", "double precision", 8, 1022, 'N'),
    kind(705, "unknown", "unknown", -2, 0, 'X'),
    kind(1042, "bpchar", "character", -1, 1014, 'S'),
    kind(1043, "varchar", "character varying", -1, 1015, 'S'),
    kind(1082, "date", "date", 4, 1182, 'D'),
    kind(1083, "time", "time without time zone", 8, 1183, 'D'),
    kind(1114, "timestamp", "timestamp without time zone", 8, 1115, 'D'),
    kind(1184, "timestamptz", "timestamp with time zone", 8, 1185, 'D'),
    kind(1186, "interval", "interval", 16, 1187, 'T'),
    kind(1700, "numeric", "numeric", -1, 1231, 'N'),
    kind(2205, "regclass", "regclass", 4, 2210, 'N'),
    kind(2950, "uuid", "uuid", 16, 2951, 'U'),
    kind(3802, "jsonb", "jsonb", -1, 3807, 'U'),
    kind(30, "oidvector", "oidvector", -1, 1013, 'A'),
];

/// What numbers of the catalogue are: `oid`. No value of an event has this type.
pub(crate) const OID: DataType = DataType::UInt32;

/// Lists of such numbers as the catalogue has them: `oidvector`, which clients read otherwise than an array of `oid`. They are
/// the large lists of Arrow, so that they are another type than the lists that questions make.
pub(crate) fn oid_vector() -> DataType {
    DataType::LargeList(Arc::new(Field::new_list_field(OID, true)))
}

/// `text`, which everything can be written as.
pub const TEXT: &PostgresType = &TYPES[8];

/// The type of that number; arrays are not found.
#[must_use]
pub fn by_oid(oid: u32) -> Option<&'static PostgresType> {
    TYPES.iter().find(|kind| kind.oid == oid)
}

/// The type of that name, short or in SQL.
pub(crate) fn by_name(name: &str) -> Option<&'static PostgresType> {
    let plain = |text: &str| text.trim_matches('"').to_lowercase();
    TYPES.iter().find(|kind| kind.name == plain(name) || plain(kind.sql) == plain(name))
}

/// The type that columns of an Arrow type are told as, and whether they are arrays of it.
#[must_use]
pub fn of(arrow: &DataType) -> (&'static PostgresType, bool) {
    let oid = match arrow {
        DataType::Boolean => 16,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => 21,
        DataType::Int32 | DataType::UInt16 => 23,
        DataType::UInt32 => 26, // see `OID`
        DataType::Int64 | DataType::UInt64 => 20,
        DataType::Float16 | DataType::Float32 => 700,
        DataType::Float64 => 701,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => 1700,
        DataType::Timestamp(_, None) => 1114,
        DataType::Timestamp(_, Some(_)) => 1184,
        DataType::Date32 | DataType::Date64 => 1082,
        DataType::Time32(_) | DataType::Time64(_) => 1083,
        DataType::Interval(_) | DataType::Duration(_) => 1186,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => 17,
        DataType::LargeList(item) if *item.data_type() == OID => 30, // see `oid_vector`
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            return match of(item.data_type()) {
                (kind, false) if kind.oid != 114 => (kind, true),
                _ => (json(), false),
            };
        }
        DataType::Map(..) | DataType::Struct(_) | DataType::Union(..) => 114,
        DataType::Dictionary(_, value) => return of(value),
        _ => TEXT.oid,
    };
    (by_oid(oid).unwrap_or(TEXT), false)
}

fn json() -> &'static PostgresType {
    by_oid(114).unwrap_or(TEXT)
}

/// The number of the type that columns of an Arrow type are told as.
#[must_use]
pub fn oid_of(arrow: &DataType) -> u32 {
    match of(arrow) {
        (kind, true) => kind.array,
        (kind, false) => kind.oid,
    }
}

/// The Arrow type that values of a type of PostgreSQL are read as; `None` of one that is not known here.
#[must_use]
pub fn arrow_of(oid: u32) -> Option<DataType> {
    if let Some(item) = TYPES.iter().find(|kind| kind.array == oid && oid != 0) {
        return arrow_of(item.oid).map(|item| DataType::new_list(item, true));
    }
    Some(match oid {
        16 => DataType::Boolean,
        17 => DataType::Binary,
        20 => DataType::Int64,
        24 | 26 | 2205 => OID,
        30 => oid_vector(),
        21 => DataType::Int16,
        23 => DataType::Int32,
        700 => DataType::Float32,
        701 => DataType::Float64,
        18 | 19 | 25 | 114 | 1042 | 1043 | 2950 | 3802 => DataType::Utf8,
        1082 => DataType::Date32,
        1083 => DataType::Time64(TimeUnit::Microsecond),
        1114 => DataType::Timestamp(TimeUnit::Microsecond, None),
        1184 => timestamp_type(),
        1186 => DataType::Interval(IntervalUnit::MonthDayNano),
        1700 => DataType::Decimal128(38, 10),
        _ => return None,
    })
}

/// The name in SQL of the type with that number, arrays included, as `format_type` has it.
#[must_use]
pub fn sql_name(oid: u32) -> String {
    match (by_oid(oid), TYPES.iter().find(|kind| kind.array == oid && oid != 0)) {
        (Some(kind), _) => kind.sql.to_owned(),
        (None, Some(item)) => format!("{}[]", item.sql),
        (None, None) => "???".to_owned(),
    }
}

/// The name in SQL of a column's type.
pub(crate) fn sql_name_of(field: &Field) -> String {
    sql_name(oid_of(field.data_type()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_told_and_read_as_the_same() {
        for kind in &TYPES {
            let Some(arrow) = arrow_of(kind.oid) else { continue };
            let told = oid_of(&arrow);
            let texts = [18, 19, 114, 1042, 1043, 2950, 3802];
            let numbers = [24, 2205];
            let expected = match kind.oid {
                oid if texts.contains(&oid) => 25,
                oid if numbers.contains(&oid) => 26,
                oid => oid,
            };
            assert_eq!(told, expected, "{}", kind.name);
            assert_eq!(by_name(kind.sql), Some(kind));
            assert_eq!(by_oid(kind.oid), Some(kind));
        }
        assert_eq!(TEXT.name, "text");
    }

    #[test]
    fn arrays_are_of_plain_types() {
        let list = DataType::new_list(DataType::Int64, true);
        assert_eq!((oid_of(&list), sql_name(oid_of(&list))), (1016, "bigint[]".to_owned()));
        assert_eq!(oid_of(&DataType::new_list(list, true)), 114);
        assert_eq!((sql_name(0), sql_name(701)), ("???".to_owned(), "double precision".to_owned()));
    }
}
