//! The ClickHouse schema as numbered migrations.
//!
//! `{database}` stands for the tenant's database and is put in before a file is run. A file may be applied
//! twice: each statement says `IF NOT EXISTS`. Running them is the sinks' business.

/// A numbered step of the ClickHouse schema.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Counts from 1 without a gap.
    pub version: u32,
    /// What the step brings.
    pub title: &'static str,
    /// Statements, separated by `;` at the end of a line; a line that begins with `--` is a comment.
    pub sql: &'static str,
}

/// All steps, in order.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        title: "streams, metrics and its rollups",
        sql: include_str!("../sql/0001_streams_and_rollups.sql"),
    },
    Migration {
        version: 2,
        title: "the built-in streams rejects and requests",
        sql: include_str!("../sql/0002_rejects_and_requests.sql"),
    },
    Migration { version: 3, title: "views of the user's own", sql: include_str!("../sql/0003_views.sql") },
    Migration {
        version: 4,
        title: "events that views could not be computed of",
        sql: include_str!("../sql/0004_failed_events.sql"),
    },
];

impl Migration {
    /// The statements of the step in order, without comments, for the database of that (quoted) name.
    #[must_use]
    pub fn statements(&self, quoted_database: &str) -> Vec<String> {
        let without_comments: Vec<&str> =
            self.sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        (without_comments.join("\n").split(";\n"))
            .map(|statement| statement.trim().trim_end_matches(';').replace("{database}", quoted_database))
            .filter(|statement| !statement.is_empty())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_from_one() {
        let versions: Vec<u32> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        assert_eq!(versions, (1..=MIGRATIONS.len() as u32).collect::<Vec<_>>());
    }

    #[test]
    fn every_statement_names_the_database_and_can_be_repeated() {
        for statement in MIGRATIONS.iter().flat_map(|migration| migration.statements("`d`")) {
            assert!(statement.contains("`d`.") && statement.contains("IF NOT EXISTS "), "{statement}");
            assert!(!statement.contains('{') && !statement.ends_with(';'), "{statement}");
        }
        assert_eq!(MIGRATIONS[0].statements("`d`").len(), 3 + 2 * 4);
        assert_eq!(MIGRATIONS[1].statements("`d`").len(), 2);
        assert_eq!(MIGRATIONS[2].statements("`d`").len(), 1);
        assert_eq!(MIGRATIONS[3].statements("`d`").len(), 1);
    }
}
