//! The statements that `core::load::sql` makes, read into what they mean. A
//! statement of another form is an error, so that a change of the SQL is
//! noticed here. Not for carrying them out: that is `transaction`.

use std::fmt;

/// A value as it stands in a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Text(String),
    Number(i64),
    /// As SQL writes it.
    Time(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) | Value::Time(text) => f.write_str(text),
            Value::Number(number) => write!(f, "{number}"),
        }
    }
}

/// Columns and the values that they have to have.
pub type Condition = Vec<(String, Value)>;

/// What a column of an INSERT ... SELECT gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Column(String),
    Value(Value),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// CREATE TABLE IF NOT EXISTS, or CREATE TEMP TABLE.
    Create {
        table: String,
        columns: Vec<String>,
        temporary: bool,
    },
    Lock {
        table: String,
    },
    /// Divides by zero when a row is found.
    RaiseIfAny {
        table: String,
        condition: Condition,
    },
    /// Divides by zero when rows of a table have the same values in these columns, or
    /// none in one of them.
    RaiseIfNotOne {
        table: String,
        key: Vec<String>,
    },
    Select {
        column: String,
        table: String,
        condition: Condition,
    },
    /// Without a condition: all rows.
    Delete {
        table: String,
        condition: Condition,
    },
    /// The rows that have in these columns what a row of another table has.
    DeleteUsing {
        table: String,
        other: String,
        key: Vec<String>,
    },
    Copy {
        table: String,
        manifest: String,
    },
    InsertSelect {
        table: String,
        columns: Vec<String>,
        sources: Vec<Source>,
        from: String,
    },
    InsertValues {
        table: String,
        values: Vec<Value>,
    },
    Drop {
        table: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A word without quotes, or a number.
    Word(String),
    /// `"name"`.
    Name(String),
    /// `'text'`.
    Text(String),
    Sign(char),
}

/// None for what the daemon is not known to write.
pub fn parse(sql: &str) -> Option<Statement> {
    let mut reader = Reader { tokens: tokens(sql)?, next: 0 };
    let statement = reader.statement()?;
    (reader.next == reader.tokens.len()).then_some(statement)
}

fn tokens(sql: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = sql.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '"' => {
                let name: String = chars.by_ref().take_while(|c| *c != '"').collect();
                tokens.push(Token::Name(name));
            }
            '\'' => {
                let mut text = String::new();
                loop {
                    match chars.next()? {
                        // Redshift's escape; the next character stands for itself.
                        '\\' => text.push(chars.next()?),
                        '\'' if chars.peek() == Some(&'\'') => text.push(chars.next()?),
                        '\'' => break,
                        c => text.push(c),
                    }
                }
                tokens.push(Token::Text(text));
            }
            c if c.is_ascii_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
            c => tokens.push(Token::Sign(c)),
        }
    }
    Some(tokens)
}

struct Reader {
    tokens: Vec<Token>,
    next: usize,
}

impl Reader {
    fn statement(&mut self) -> Option<Statement> {
        match self.word()?.as_str() {
            "CREATE" => self.create(),
            "LOCK" => {
                self.words("TABLE")?;
                Some(Statement::Lock { table: self.table()? })
            }
            "SELECT" => self.select(),
            "DELETE" => {
                self.words("FROM")?;
                let table = self.table()?;
                if self.accept("USING") {
                    return self.delete_using(table);
                }
                let ends = self.next == self.tokens.len();
                let condition = if ends { Vec::new() } else { self.condition()? };
                Some(Statement::Delete { table, condition })
            }
            "COPY" => self.copy(),
            "INSERT" => self.insert(),
            "DROP" => {
                self.words("TABLE")?;
                Some(Statement::Drop { table: self.table()? })
            }
            _ => None,
        }
    }

    fn create(&mut self) -> Option<Statement> {
        let temporary = self.accept("TEMP");
        self.words("TABLE")?;
        if !temporary {
            self.words("IF NOT EXISTS")?;
        }
        let table = self.table()?;
        self.sign('(')?;
        let mut columns = Vec::new();
        // A name and a type, which may have its sizes in brackets.
        let mut depth = 1;
        columns.push(self.column()?);
        while depth > 0 {
            match self.token()? {
                Token::Sign('(') => depth += 1,
                Token::Sign(')') => depth -= 1,
                Token::Sign(',') if depth == 1 => columns.push(self.column()?),
                Token::Sign(',') | Token::Word(_) => {}
                _ => return None,
            }
        }
        Some(Statement::Create { table, columns, temporary })
    }

    fn select(&mut self) -> Option<Statement> {
        let raises = "1 / CASE WHEN COUNT ( * ) = 0 THEN 1 ELSE 0 END FROM";
        if self.words(raises).is_some() {
            if self.sign('(').is_some() {
                return self.raise_if_not_one();
            }
            let (table, condition) = (self.table()?, self.condition()?);
            return Some(Statement::RaiseIfAny { table, condition });
        }
        let column = self.column()?;
        self.words("FROM")?;
        Some(Statement::Select { column, table: self.table()?, condition: self.condition()? })
    }

    /// The same columns in all three places, after the bracket.
    fn raise_if_not_one(&mut self) -> Option<Statement> {
        self.words("SELECT")?;
        let key = self.columns()?;
        self.words("FROM")?;
        let table = self.table()?;
        self.words("GROUP BY")?;
        let grouped = self.columns()?;
        self.words("HAVING COUNT ( * ) > 1")?;
        let mut lacking = Vec::new();
        while self.accept("OR") {
            lacking.push(self.column()?);
            self.words("IS NULL")?;
        }
        self.sign(')')?;
        self.words("AS")?;
        self.column()?;
        (key == grouped && key == lacking).then_some(Statement::RaiseIfNotOne { table, key })
    }

    fn delete_using(&mut self, table: String) -> Option<Statement> {
        let other = self.table()?;
        self.words("WHERE")?;
        let mut key = Vec::new();
        loop {
            let column = self.table_column(&table)?;
            self.sign('=')?;
            if self.table_column(&other)? != column {
                return None;
            }
            key.push(column);
            if !self.accept("AND") {
                return Some(Statement::DeleteUsing { table, other, key });
            }
        }
    }

    /// `"table"."column"`, without the table's schema.
    fn table_column(&mut self, table: &str) -> Option<String> {
        let name = table.rsplit('.').next()?;
        (self.column()? == name).then_some(())?;
        self.sign('.')?;
        self.column()
    }

    fn columns(&mut self) -> Option<Vec<String>> {
        let mut columns = vec![self.column()?];
        while self.sign(',').is_some() {
            columns.push(self.column()?);
        }
        Some(columns)
    }

    fn copy(&mut self) -> Option<Statement> {
        let table = self.table()?;
        self.words("FROM")?;
        let manifest = self.text()?;
        self.words("IAM_ROLE")?;
        if !self.accept("default") {
            self.text()?;
        }
        self.words("FORMAT AS PARQUET MANIFEST")?;
        Some(Statement::Copy { table, manifest })
    }

    fn insert(&mut self) -> Option<Statement> {
        self.words("INTO")?;
        let table = self.table()?;
        if self.accept("VALUES") {
            self.sign('(')?;
            let mut values = vec![self.value()?];
            while self.sign(',').is_some() {
                values.push(self.value()?);
            }
            self.sign(')')?;
            return Some(Statement::InsertValues { table, values });
        }
        self.sign('(')?;
        let columns = self.columns()?;
        self.sign(')')?;
        self.words("SELECT")?;
        let mut sources = vec![self.source()?];
        while self.sign(',').is_some() {
            sources.push(self.source()?);
        }
        self.words("FROM")?;
        let from = self.table()?;
        let fits = columns.len() == sources.len();
        fits.then_some(Statement::InsertSelect { table, columns, sources, from })
    }

    fn source(&mut self) -> Option<Source> {
        let is_value =
            matches!(self.tokens.get(self.next), Some(Token::Word(word)) if word == "TIMESTAMP");
        match is_value {
            true => self.value().map(Source::Value),
            false => self.column().map(Source::Column),
        }
    }

    fn condition(&mut self) -> Option<Condition> {
        self.words("WHERE")?;
        let mut all = Vec::new();
        loop {
            let column = self.column()?;
            self.sign('=')?;
            all.push((column, self.value()?));
            if !self.accept("AND") {
                return Some(all);
            }
        }
    }

    fn value(&mut self) -> Option<Value> {
        match self.token()? {
            Token::Text(text) => Some(Value::Text(text)),
            Token::Word(word) if word == "TIMESTAMP" => self.text().map(Value::Time),
            Token::Word(word) => word.parse().ok().map(Value::Number),
            _ => None,
        }
    }

    /// `"schema"."name"`, or `"name"` of a temporary table.
    fn table(&mut self) -> Option<String> {
        let Token::Name(first) = self.token()? else { return None };
        if self.sign('.').is_none() {
            return Some(first);
        }
        let Token::Name(second) = self.token()? else { return None };
        Some(format!("{first}.{second}"))
    }

    fn column(&mut self) -> Option<String> {
        match self.token()? {
            Token::Name(name) | Token::Word(name) => Some(name),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<String> {
        match self.token()? {
            Token::Text(text) => Some(text),
            _ => None,
        }
    }

    fn word(&mut self) -> Option<String> {
        match self.token()? {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    fn token(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.next)?.clone();
        self.next += 1;
        Some(token)
    }

    fn sign(&mut self, sign: char) -> Option<()> {
        let is = self.tokens.get(self.next) == Some(&Token::Sign(sign));
        self.next += usize::from(is);
        is.then_some(())
    }

    /// Takes a word if it comes next.
    fn accept(&mut self, word: &str) -> bool {
        self.words(word).is_some()
    }

    /// Takes these words and signs, or none of them.
    fn words(&mut self, words: &str) -> Option<()> {
        let start = self.next;
        for wanted in words.split(' ') {
            let is = match self.tokens.get(self.next) {
                Some(Token::Word(word)) => word == wanted,
                Some(Token::Sign(sign)) => wanted.chars().eq([*sign]),
                _ => false,
            };
            if !is {
                self.next = start;
                return None;
            }
            self.next += 1;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    #[test]
    fn understands_what_the_daemon_writes_and_nothing_else() {
        let ledger = || "public.sluicegate_loads".to_owned();
        let condition =
            || vec![("task".to_owned(), text("it's")), ("part".to_owned(), text("a\\b"))];
        for (sql, expected) in [
            (
                r#"CREATE TABLE IF NOT EXISTS "public"."sluicegate_loads" (deployment varchar(64), files bigint, "x" decimal(18, 2))"#,
                Some(Statement::Create {
                    table: ledger(),
                    columns: ["deployment", "files", "x"].map(str::to_owned).to_vec(),
                    temporary: false,
                }),
            ),
            (
                r#"CREATE TEMP TABLE "stage" ("a" double precision)"#,
                Some(Statement::Create {
                    table: "stage".to_owned(),
                    columns: vec!["a".to_owned()],
                    temporary: true,
                }),
            ),
            (
                r#"SELECT 1 / CASE WHEN COUNT(*) = 0 THEN 1 ELSE 0 END FROM "public"."sluicegate_loads" WHERE task = 'it''s' AND part = 'a\\b'"#,
                Some(Statement::RaiseIfAny { table: ledger(), condition: condition() }),
            ),
            (
                r#"SELECT run FROM "public"."sluicegate_loads" WHERE task = 'it''s' AND part = 'a\\b'"#,
                Some(Statement::Select {
                    column: "run".to_owned(),
                    table: ledger(),
                    condition: condition(),
                }),
            ),
            (
                r#"DELETE FROM "mart"."t" WHERE "hour_of" = TIMESTAMP '2013-01-01 05:00:00'"#,
                Some(Statement::Delete {
                    table: "mart.t".to_owned(),
                    condition: vec![(
                        "hour_of".to_owned(),
                        Value::Time("2013-01-01 05:00:00".to_owned()),
                    )],
                }),
            ),
            (
                r#"COPY "stage" FROM 's3://b/m.json' IAM_ROLE default FORMAT AS PARQUET MANIFEST"#,
                Some(Statement::Copy {
                    table: "stage".to_owned(),
                    manifest: "s3://b/m.json".to_owned(),
                }),
            ),
            (
                r#"INSERT INTO "mart"."t" ("a", "h") SELECT "a", TIMESTAMP 'x' FROM "stage""#,
                Some(Statement::InsertSelect {
                    table: "mart.t".to_owned(),
                    columns: vec!["a".to_owned(), "h".to_owned()],
                    sources: vec![
                        Source::Column("a".to_owned()),
                        Source::Value(Value::Time("x".to_owned())),
                    ],
                    from: "stage".to_owned(),
                }),
            ),
            (
                r#"INSERT INTO "mart"."t" VALUES ('a', 2, TIMESTAMP 'x')"#,
                Some(Statement::InsertValues {
                    table: "mart.t".to_owned(),
                    values: vec![text("a"), Value::Number(2), Value::Time("x".to_owned())],
                }),
            ),
            (r#"DELETE FROM "mart"."t" WHERE a > 1"#, None),
            (r#"DELETE FROM "mart"."t"; DELETE FROM "mart"."u""#, None),
            (r#"TRUNCATE "mart"."t""#, None),
            (r#"SELECT 'unclosed"#, None),
            ("", None),
        ] {
            assert_eq!(parse(sql), expected, "{sql}");
        }
    }

    #[test]
    fn understands_every_statement_of_a_load() {
        use crate::faults::Bounds;
        use crate::scenario::{Kind, Scenario};
        use jiff::Timestamp;
        use sluicegate::core::load::Mode;
        use sluicegate::core::load::sql::{Subject, question, statements};
        use sluicegate::core::task::TaskKey;
        let key = TaskKey::new("t", "2013-01-01T05".parse().unwrap());
        let (now, manifest) = (Timestamp::UNIX_EPOCH, "s3://landing/m.json");
        let mut modes = [false; 4];
        for seed in 0..20 {
            let scenario = Scenario::of_seed(seed, Kind::Loads, now, Bounds::Broken);
            let config =
                sluicegate::config::parse(&scenario.text, std::path::Path::new("sim.toml"));
            let catalog = config.unwrap().catalog;
            let warehouse = &catalog.warehouses["mart"];
            for spec in catalog.tasks.values().filter_map(|task| task.load.as_ref()) {
                let mode = match spec.mode {
                    Mode::Append => 0,
                    Mode::ReplacePartition(_) => 1,
                    Mode::ReplaceTable => 2,
                    Mode::Upsert(_) => 3,
                };
                modes[mode] = true;
                let subject =
                    Subject { deployment: "sim", key: &key, run: "R", files: 1, manifest, now };
                let all = statements(warehouse, spec, &subject);
                for sql in all.iter().chain(&question(warehouse, "sim", &key)) {
                    assert!(parse(sql).is_some(), "{sql}");
                }
            }
        }
        assert_eq!(modes, [true; 4]);
    }
}
