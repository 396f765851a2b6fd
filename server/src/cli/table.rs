//! Lists: columns for people, tabs or JSON for programs.

use clap::Args;
use serde::Serialize;

use super::{Failure, Reply};

/// How a list is printed.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Format {
    /// Print no header, and one tab between columns, for scripts.
    #[arg(short = 'H', long = "no-header", conflicts_with = "json")]
    headless: bool,
    /// Print JSON, for programs.
    #[arg(short, long)]
    json: bool,
}

impl Format {
    /// Whether numbers are to be exact.
    pub(crate) const fn is_for_scripts(self) -> bool {
        self.headless
    }

    /// Whether more than a list may be printed, or a sentence in place of an empty one.
    pub(crate) const fn is_for_people(self) -> bool {
        !self.headless && !self.json
    }

    /// Prints `records` as JSON, or else the table that is made of them.
    pub(crate) fn reply<T: Serialize + ?Sized>(
        self,
        records: &T,
        table: impl FnOnce(&T) -> Table,
    ) -> Result<Reply, Failure> {
        if self.json {
            let mut text = serde_json::to_string_pretty(records).map_err(Failure::could_not)?;
            text.push('\n');
            return Ok(Reply::text(text));
        }
        let table = table(records);
        Ok(Reply::text(if self.headless { table.tabs() } else { table.columns() }))
    }
}

/// A list with a header.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty list with these columns.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a line: a cell for each column. An empty cell is printed as `-`.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let full = |cell: String| if cell.is_empty() { "-".to_owned() } else { cell };
        self.rows.push(cells.into_iter().map(full).collect());
    }

    /// The same list with these of its columns alone, by their names in small letters.
    pub(crate) fn with(self, columns: &[String]) -> Self {
        let at =
            |wanted: &String| self.header.iter().position(|name| name.eq_ignore_ascii_case(wanted));
        let wanted: Vec<usize> = columns.iter().filter_map(at).collect();
        let header = wanted.iter().filter_map(|at| self.header.get(*at)).copied().collect();
        let pick =
            |row: &Vec<String>| wanted.iter().filter_map(|at| row.get(*at)).cloned().collect();
        Self { header, rows: self.rows.iter().map(pick).collect() }
    }

    fn tabs(&self) -> String {
        self.rows.iter().map(|row| row.join("\t") + "\n").collect()
    }

    /// The list for people.
    pub(crate) fn columns(&self) -> String {
        let width = |cell: &str| cell.chars().count();
        let mut widths: Vec<usize> = self.header.iter().map(|cell| width(cell)).collect();
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(width(cell));
            }
        }
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let padded = cells.zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
            let line = padded.collect::<Vec<_>>().join("  ");
            format!("{}\n", line.trim_end())
        };
        let mut text = line(&mut self.header.iter().copied());
        for row in &self.rows {
            text += &line(&mut row.iter().map(String::as_str));
        }
        text
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "LAYOUT"]);
        table.row(["büro".into(), "flat".into()]);
        table.row(["a-long-name".into(), String::new()]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(table().columns(), "NAME         LAYOUT\nbüro         flat\na-long-name  -\n");
    }

    #[test]
    fn columns_are_those_that_are_wanted_in_that_order() {
        let wanted = ["layout", "name"].map(str::to_owned);
        assert_eq!(table().with(&wanted).tabs(), "flat\tbüro\n-\ta-long-name\n");
    }

    #[test]
    fn scripts_get_tabs_and_no_header() {
        assert_eq!(table().tabs(), "büro\tflat\na-long-name\t-\n");
    }
}
