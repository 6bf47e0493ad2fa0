//! Random questions over the stream `hits`, whose rows are told apart by `n`.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// See the module.
pub(crate) struct Generator {
    random: StdRng,
}

/// A question whose answer is the same whatever computes it.
pub(crate) struct Question {
    pub(crate) sql: String,
    /// Whether it says of any two rows which comes first; else its answer is the same as a set.
    pub(crate) is_ordered: bool,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Generator { random: StdRng::seed_from_u64(seed) }
    }

    fn one(&mut self, of: &[&str]) -> String {
        (*of.choose(&mut self.random).unwrap()).to_owned()
    }

    fn below(&mut self, n: usize) -> usize {
        self.random.random_range(0..n)
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn integer(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 4 } else { 11 }) {
            0 | 1 => "visitor".into(),
            2 => "n".into(),
            3 => self.one(&["0", "1", "-7", "100", "9223372036854775807"]),
            4 => format!("({} + {})", self.integer(depth - 1), self.integer(depth - 1)),
            5 => format!("({} - {})", self.integer(depth - 1), self.integer(depth - 1)),
            6 => format!("({} / {})", self.integer(depth - 1), self.one(&["2", "-3", "7", "1000"])),
            7 => format!("({} % {})", self.integer(depth - 1), self.one(&["2", "-3", "7", "1000"])),
            8 => format!("coalesce({}, {})", self.integer(depth - 1), self.integer(depth - 1)),
            9 => format!(
                "CASE WHEN {} THEN {} ELSE {} END",
                self.truth(depth - 1),
                self.integer(depth - 1),
                self.integer(depth - 1)
            ),
            _ => format!("CAST({} AS BIGINT)", self.part()),
        }
    }

    fn part(&mut self) -> String {
        let part = self.one(&["year", "quarter", "month", "week", "day", "doy", "dow", "hour", "minute", "second"]);
        format!("date_part('{part}', {})", self.time(0))
    }

    fn float(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 3 } else { 11 }) {
            9 => format!("({} / {})", self.float(depth - 1), self.one(&["2.0", "-0.1", "ms", "0.0"])),
            10 => format!("{}({})", self.one(&["floor", "ceil", "sqrt"]), self.float(depth - 1)),
            0 | 1 => "ms".into(),
            2 => self.one(&["0.0", "1.5", "-2.25", "1e10"]),
            3 => format!("({} + {})", self.float(depth - 1), self.float(depth - 1)),
            4 => format!("({} * {})", self.float(depth - 1), self.one(&["2.0", "-0.5", "ms"])),
            5 => format!("CAST({} AS DOUBLE)", self.integer(0)),
            6 => format!("abs({})", self.float(depth - 1)),
            7 => format!("coalesce({}, 0.5)", self.float(depth - 1)),
            _ => format!("CASE WHEN {} THEN {} END", self.truth(depth - 1), self.float(depth - 1)),
        }
    }

    fn text(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 3 } else { 7 }) {
            0 => "page".into(),
            1 => "country".into(),
            2 => self.one(&["'it'", "''", "'/p/3'", "'o''brien\\'", "'é'"]),
            3 => format!("({} || {})", self.text(depth - 1), self.text(depth - 1)),
            4 => format!("coalesce({}, 'none')", self.text(depth - 1)),
            5 => format!("nullif({}, {})", self.text(depth - 1), self.text(depth - 1)),
            _ => format!("CASE WHEN {} THEN {} ELSE 'other' END", self.truth(depth - 1), self.text(depth - 1)),
        }
    }

    fn time(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 2 } else { 7 }) {
            0 => "at".into(),
            1 => "seen".into(),
            2 => {
                let width = self.one(&["1 second", "7 seconds", "1 hour", "1 day", "3 days"]);
                format!("date_bin('{width}', {})", self.time(0))
            }
            3 => {
                let width = self.one(&["7 minutes", "1 hour", "1 day"]);
                format!("date_bin('{width}', {}, '2001-02-03T04:05:06Z')", self.time(0))
            }
            4 => {
                let unit = self.one(&["second", "minute", "hour", "day", "week", "month", "quarter", "year"]);
                format!("date_trunc('{unit}', {})", self.time(0))
            }
            5 => {
                format!("date_trunc('{}', at - interval '90000 days')", self.one(&["month", "quarter", "year", "week"]))
            }
            _ => format!(
                "(at {} interval '{}')",
                self.one(&["+", "-"]),
                self.one(&["1 hour", "2 days", "10 seconds", "100000 days"])
            ),
        }
    }

    fn truth(&mut self, depth: usize) -> String {
        let compare = ["=", "<>", "<", "<=", ">", ">="];
        match self.below(if depth == 0 { 6 } else { 13 }) {
            0 => "secure".into(),
            1 => format!("{} {} {}", self.integer(0), self.one(&compare), self.integer(0)),
            2 => format!("{} {} {}", self.float(0), self.one(&compare), self.float(0)),
            3 => format!("{} {} {}", self.text(0), self.one(&compare), self.text(0)),
            4 => format!("{} {} '2024-05-01T00:20:00Z'", self.time(0), self.one(&compare)),
            5 => format!("{} IS {}NULL", self.one(&["visitor", "page", "ms", "seen"]), self.one(&["", "NOT "])),
            6 => format!("({} AND {})", self.truth(depth - 1), self.truth(depth - 1)),
            7 => format!("({} OR {})", self.truth(depth - 1), self.truth(depth - 1)),
            8 => format!("(NOT {})", self.truth(depth - 1)),
            9 => format!("{} {}IN ('it', 'de', '')", self.text(depth - 1), self.one(&["", "NOT "])),
            10 => format!("visitor {}IN (1, 2, 3, -5)", self.one(&["", "NOT "])),
            11 => format!(
                "{} {}LIKE {}",
                self.text(0),
                self.one(&["", "NOT "]),
                self.one(&["'/p/%'", "'%t'", "'%''%'", "'i%t'", "'%'", "'_t'"])
            ),
            _ => format!("({}) IS {}TRUE", self.truth(depth - 1), self.one(&["", "NOT "])),
        }
    }

    fn key(&mut self) -> String {
        match self.below(7) {
            // As Grafana makes buckets.
            6 => format!("floor(extract(epoch FROM {}) / {1}) * {1}", self.time(1), self.one(&["60", "300", "86400"])),
            0 => "country".into(),
            1 => "secure".into(),
            2 => self.text(2),
            3 => format!("{} % 5", self.integer(1)),
            4 => self.part(),
            _ => self.time(1),
        }
    }

    fn aggregate(&mut self) -> String {
        let call = match self.below(13) {
            0 => "count(*)".to_owned(),
            1 => format!("count({})", self.text(1)),
            2 => format!("sum({})", self.integer(1)),
            3 => format!("sum({})", self.float(1)),
            4 => format!("avg({})", self.one(&["ms", "n"])),
            5 => format!("{}({})", self.one(&["min", "max"]), self.integer(1)),
            6 => format!("{}({})", self.one(&["min", "max"]), self.float(1)),
            7 => format!("{}({})", self.one(&["min", "max"]), self.text(1)),
            8 => format!("{}({})", self.one(&["min", "max"]), self.time(1)),
            9 => format!("count(DISTINCT {})", self.one(&["country", "visitor", "page", "seen"])),
            // Of huge values that are alike, what is left of a variance is rounding.
            10 => format!(
                "{}(CASE WHEN abs(ms) < 1000 THEN ms END)",
                self.one(&["stddev", "stddev_pop", "var_samp", "var_pop"])
            ),
            11 => "median(ms)".to_owned(),
            _ => format!("{}(secure)", self.one(&["min", "max"])),
        };
        match self.chance(4) {
            true => format!("{call} FILTER (WHERE {})", self.truth(1)),
            false => call,
        }
    }

    fn filter(&mut self) -> String {
        if self.chance(3) { String::new() } else { format!(" WHERE {}", self.truth(2)) }
    }

    pub(crate) fn question(&mut self) -> Question {
        match self.below(11) {
            0..=2 => self.grouped(),
            4 => Question { sql: self.first(), is_ordered: true },
            kind => Question { sql: self.unordered(kind), is_ordered: false },
        }
    }

    fn unordered(&mut self, kind: usize) -> String {
        match kind {
            9 => {
                let (one, other, agg) =
                    (self.below(30), self.below(30), self.one(&["count(*)", "max(b.n)", "sum(a.visitor)"]));
                let join = self.one(&["CROSS JOIN", "JOIN", "LEFT JOIN"]);
                let on = if join == "CROSS JOIN" { "" } else { " ON a.country = b.page AND a.n < b.n" };
                format!(
                    "SELECT {agg}, max(b.n) FROM (SELECT * FROM hits WHERE n < {one}) a {join} (SELECT * FROM hits WHERE n > \
                     10 AND n < {other}) b{on}"
                )
            }
            10 => {
                let (filter, not) = (self.filter(), self.one(&["", "NOT "]));
                let limit = self.below(40);
                format!(
                    "SELECT country, count(*), min(n) FROM (SELECT * FROM hits{filter} ORDER BY n LIMIT {limit}) a WHERE {not}EXISTS \
                     (SELECT 1 FROM hits b WHERE b.visitor = a.visitor AND b.n <> 3 AND b.n % 7 = 1) GROUP BY country"
                )
            }
            3 => {
                let aggregates: Vec<String> = (0..1 + self.below(4)).map(|_| self.aggregate()).collect();
                format!("SELECT {} FROM hits{}", aggregates.join(", "), self.filter())
            }
            5 => {
                let (inner, outer, key) = (self.filter(), self.filter(), self.one(&["country", "visitor", "page"]));
                let join = self.one(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
                format!(
                    "SELECT a.{key}, count(*), sum(b.m) FROM (SELECT * FROM hits{outer}) a {join} (SELECT {key}, max(n) AS m \
                     FROM hits{inner} GROUP BY {key}) b ON a.{key} = b.{key} GROUP BY a.{key}"
                )
            }
            6 => {
                let (key, filter) = (self.key(), self.filter());
                format!(
                    "SELECT count(*), sum(c), max(k) FROM (SELECT {key} AS k, count(*) AS c FROM hits{filter} GROUP BY 1)"
                )
            }
            7 => {
                let (not, filter, inner) = (self.one(&["", "NOT "]), self.truth(1), self.filter());
                let inner = if inner.is_empty() { " WHERE visitor IS NOT NULL".into() } else { inner };
                format!(
                    "SELECT country, count(*) FROM hits WHERE {filter} AND visitor {not}IN (SELECT visitor FROM hits{inner} AND \
                     visitor IS NOT NULL) GROUP BY country"
                )
            }
            _ => {
                let (one, other) = (self.filter(), self.filter());
                format!(
                    "SELECT country, count(*), max(v) FROM (SELECT country, visitor AS v FROM hits{one} UNION ALL SELECT page, n \
                     FROM hits{other}) GROUP BY country"
                )
            }
        }
    }

    /// The first rows of an order, in which `n` tells apart those that are alike.
    fn first(&mut self) -> String {
        let (direction, nulls) = (self.one(&["", " DESC"]), self.one(&["", " NULLS FIRST", " NULLS LAST"]));
        let by = match self.below(4) {
            0 => self.integer(1),
            1 => self.float(1),
            2 => self.text(1),
            _ => self.time(1),
        };
        let (filter, limit) = (self.filter(), 1 + self.below(30));
        let skip = if self.chance(3) { format!(" OFFSET {}", self.below(20)) } else { String::new() };
        let shown = self.text(1);
        format!("SELECT n, at, ms, {shown} FROM hits{filter} ORDER BY {by}{direction}{nulls}, n LIMIT {limit}{skip}")
    }

    /// Groups, or the first of them in the order of what tells them apart.
    fn grouped(&mut self) -> Question {
        let keys: Vec<String> = (0..1 + self.below(2)).map(|_| self.key()).collect();
        let aggregates: Vec<String> = (0..self.below(4)).map(|_| self.aggregate()).collect();
        let select = keys.iter().chain(&aggregates).cloned().collect::<Vec<_>>().join(", ");
        let groups = (1..=keys.len()).map(|at| at.to_string()).collect::<Vec<_>>().join(", ");
        let having = if self.chance(4) { format!(" HAVING count(*) > {}", self.below(20)) } else { String::new() };
        let first =
            if self.chance(3) { format!(" ORDER BY {groups} LIMIT {}", 1 + self.below(9)) } else { String::new() };
        let sql = format!("SELECT {select} FROM hits{} GROUP BY {groups}{having}{first}", self.filter());
        Question { sql, is_ordered: !first.is_empty() }
    }
}
