//! What the server tells of itself, and of the types of its SQL.

use std::sync::LazyLock;

use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    Nullable, Searchable, SqlInfo, SqlNullOrdering, SqlSupportedCaseSensitivity, SqlSupportedTransaction, XdbcDataType,
    XdbcDatetimeSubcode,
};

static INFOS: LazyLock<SqlInfoData> = LazyLock::new(|| {
    let mut infos = SqlInfoDataBuilder::new();
    infos.append(SqlInfo::FlightSqlServerName, "streamgauge");
    infos.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    infos.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    infos.append(SqlInfo::FlightSqlServerReadOnly, false); // views are made and dropped
    infos.append(SqlInfo::FlightSqlServerSql, true);
    infos.append(SqlInfo::FlightSqlServerSubstrait, false);
    infos.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    infos.append(SqlInfo::FlightSqlServerCancel, true);
    infos.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    infos.append(SqlInfo::SqlDdlCatalog, false);
    infos.append(SqlInfo::SqlDdlSchema, false);
    infos.append(SqlInfo::SqlDdlTable, false);
    infos
        .append(SqlInfo::SqlIdentifierCase, i64::from(SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32));
    infos.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    infos.append(SqlInfo::SqlAllTablesAreSelectable, true);
    infos.append(SqlInfo::SqlNullOrdering, i64::from(SqlNullOrdering::SqlNullsSortedHigh as i32));
    infos.append(SqlInfo::SqlSchemaTerm, "schema");
    infos.append(SqlInfo::SqlCatalogTerm, "catalog");
    infos.append(SqlInfo::SqlTransactionsSupported, false);
    infos.build().expect("each has a value of its type")
});

/// What the server tells of itself.
pub(super) fn infos() -> &'static SqlInfoData {
    &INFOS
}

static TYPES: LazyLock<XdbcTypeInfoData> = LazyLock::new(|| {
    let mut types = XdbcTypeInfoDataBuilder::new();
    let whole = |name: &str, kind, bits| XdbcTypeInfo {
        column_size: Some(bits),
        num_prec_radix: Some(2),
        unsigned_attribute: Some(false),
        fixed_prec_scale: true,
        ..described(name, kind)
    };
    let quoted = |name: &str, kind| XdbcTypeInfo {
        literal_prefix: Some("'".into()),
        literal_suffix: Some("'".into()),
        ..described(name, kind)
    };
    let moment = |name: &str, kind, subcode| XdbcTypeInfo {
        sql_data_type: XdbcDataType::XdbcDatetime,
        datetime_subcode: Some(subcode),
        maximum_scale: Some(6),
        ..quoted(name, kind)
    };
    types.append(described("boolean", XdbcDataType::XdbcBit));
    types.append(whole("smallint", XdbcDataType::XdbcSmallint, 16));
    types.append(whole("integer", XdbcDataType::XdbcInteger, 32));
    types.append(whole("bigint", XdbcDataType::XdbcBigint, 64));
    types.append(whole("real", XdbcDataType::XdbcReal, 24));
    types.append(whole("double precision", XdbcDataType::XdbcDouble, 53));
    types.append(XdbcTypeInfo {
        column_size: Some(38),
        create_params: Some(vec!["precision".into(), "scale".into()]),
        minimum_scale: Some(0),
        maximum_scale: Some(38),
        num_prec_radix: Some(10),
        ..described("numeric", XdbcDataType::XdbcNumeric)
    });
    types.append(XdbcTypeInfo { case_sensitive: true, ..quoted("text", XdbcDataType::XdbcVarchar) });
    types.append(quoted("bytea", XdbcDataType::XdbcVarbinary));
    types.append(moment("date", XdbcDataType::XdbcDate, XdbcDatetimeSubcode::XdbcSubcodeYear)); // the number of a date, too
    types.append(moment("time", XdbcDataType::XdbcTime, XdbcDatetimeSubcode::XdbcSubcodeTime));
    types.append(moment(
        "timestamp with time zone",
        XdbcDataType::XdbcTimestamp,
        XdbcDatetimeSubcode::XdbcSubcodeTimestampWithTimezone,
    ));
    types.append(quoted("interval", XdbcDataType::XdbcInterval));
    types.build().expect("each has the columns of all")
});

/// The types of SQL.
pub(super) fn types() -> &'static XdbcTypeInfoData {
    &TYPES
}

fn described(name: &str, kind: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.into(),
        local_type_name: Some(name.into()),
        data_type: kind,
        sql_data_type: kind,
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        auto_increment: Some(false),
        ..XdbcTypeInfo::default()
    }
}
