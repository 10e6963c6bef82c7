//! What was measured beside what was aimed at: as a table for people and as
//! JSON for programs. A missed aim is a row like any other, never a failure.

use std::fmt::Write;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::stats::Stats;

/// On which side of it a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aim {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub what: String,
    pub aim: Option<Aim>,
    pub unit: &'static str,
    /// What is held against the aim.
    pub value: f64,
    /// Of several measurements.
    pub spread: Option<Stats>,
}

impl Row {
    pub fn new(what: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self { what: what.into(), aim: None, unit, value, spread: None }
    }

    /// The median of several measurements.
    pub fn median(what: impl Into<String>, unit: &'static str, stats: Stats) -> Self {
        Self { spread: Some(stats), ..Self::new(what, unit, stats.median) }
    }

    pub fn at_most(self, aim: f64) -> Self {
        Self { aim: Some(Aim::AtMost(aim)), ..self }
    }

    pub fn at_least(self, aim: f64) -> Self {
        Self { aim: Some(Aim::AtLeast(aim)), ..self }
    }

    /// Whether the aim is met, or how far it is.
    fn verdict(&self) -> String {
        let (met, far) = match self.aim {
            None => return String::new(),
            Some(Aim::AtMost(aim)) => (self.value <= aim, self.value / aim),
            Some(Aim::AtLeast(aim)) => (self.value >= aim, self.value / aim),
        };
        match met {
            true => "met".to_owned(),
            false => format!("missed: {far:.2} of it"),
        }
    }

    fn cells(&self) -> [String; 5] {
        let aim = match self.aim {
            None => String::new(),
            Some(Aim::AtMost(aim)) => format!("≤ {}", amount(aim)),
            Some(Aim::AtLeast(aim)) => format!("≥ {}", amount(aim)),
        };
        let spread = self.spread.map(|stats| {
            format!("{} – {} ({})", amount(stats.min), amount(stats.max), stats.count)
        });
        let measured = format!("{} {}", amount(self.value), self.unit);
        [self.what.clone(), aim, measured, spread.unwrap_or_default(), self.verdict()]
    }
}

/// One bench: its rows and what a reader must know to judge them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Section {
    pub name: &'static str,
    pub title: &'static str,
    pub rows: Vec<Row>,
    pub notes: Vec<String>,
}

/// Where and when it was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    pub date: String,
    pub commit: String,
    pub processor: String,
    pub cores: usize,
    /// Small sizes: the figures mean nothing.
    pub quick: bool,
    /// An optimised build.
    pub release: bool,
    /// The load average over a minute, before and after.
    pub load: [Option<f64>; 2],
    pub seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub setting: Setting,
    pub sections: Vec<Section>,
}

impl Report {
    pub fn text(&self) -> String {
        let setting = &self.setting;
        let load = setting.load.map(|load| load.map_or("?".to_owned(), |load| load.to_string()));
        let mut text = format!(
            "sluicegate bench, commit {}, {}\n{}, {} cores, load {} before and {} after, {:.0} s\n",
            setting.commit,
            setting.date,
            setting.processor,
            setting.cores,
            load[0],
            load[1],
            setting.seconds
        );
        if setting.quick || !setting.release {
            text.push_str("small sizes or a debug build: the figures mean nothing\n");
        }
        for section in &self.sections {
            let _ = write!(text, "\n{}: {}\n{}\n", section.name, section.title, table(section));
            for note in &section.notes {
                let _ = writeln!(text, "  - {note}");
            }
        }
        text
    }
}

fn table(section: &Section) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["", "aim", "measured", "min – max (times)", "aim met"]);
    for row in &section.rows {
        let [what, aim, measured, spread, verdict] = row.cells();
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row(vec![
            Cell::new(what),
            right(aim),
            right(measured),
            right(spread),
            Cell::new(verdict),
        ]);
    }
    table
}

/// Three digits that mean something; whole numbers stay whole.
fn amount(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_whether_an_aim_is_met_and_how_far_it_is() {
        let row = |value| Row::new("x", "ms", value);
        for (row, verdict) in [
            (row(20.0).at_most(20.0), "met"),
            (row(30.0).at_most(20.0), "missed: 1.50 of it"),
            (row(3.0).at_least(2.5), "met"),
            (row(2.0).at_least(2.5), "missed: 0.80 of it"),
            (row(7.0), ""),
        ] {
            assert_eq!(row.verdict(), verdict);
        }
    }

    #[test]
    fn amounts_are_short() {
        let written = [0.01234, 1.234, 12.34, 1234.5, 40.0].map(amount);
        assert_eq!(written, ["0.012", "1.23", "12.3", "1234", "40"]);
    }
}
