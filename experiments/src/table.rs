//! Tables: to the terminal row by row, and as Markdown and CSV to a directory.

use std::cell::RefCell;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use neuralef::persist::AtomicFile;
use neuralef::{Error, Result};

/// A table that grows. With a directory, NAME.md and NAME.csv in it hold the rows there are so far,
/// so that a run that is stopped leaves what it has measured.
pub struct Table {
    columns: Vec<String>,
    rows: RefCell<Vec<Vec<String>>>,
    files: Option<(PathBuf, PathBuf)>,
    shown: bool,
}

impl Table {
    /// An empty table whose head, and every row to come, goes to the terminal. Names of columns that
    /// begin with `<` are set to the left.
    pub fn new(name: &str, columns: &[&str], out: Option<&Path>) -> Self {
        let table = Table::quiet(name, columns, out);
        println!("\n{}", table.head());
        Table { shown: true, ..table }
    }

    /// A table for files alone.
    pub fn quiet(name: &str, columns: &[&str], out: Option<&Path>) -> Self {
        let file = |folder: &Path, extension: &str| folder.join(format!("{name}.{extension}"));
        Table {
            columns: columns.iter().map(|c| c.to_string()).collect(),
            rows: RefCell::default(),
            files: out.map(|folder| (file(folder, "md"), file(folder, "csv"))),
            shown: false,
        }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of cells than columns, [`Error::Io`].
    pub fn row(&self, cells: impl IntoIterator<Item = String>) -> Result<()> {
        let cells: Vec<String> = cells.into_iter().collect();
        if cells.len() != self.columns.len() {
            return Err(Error::shape("row of a table", self.columns.len(), cells.len()));
        }
        if self.shown {
            println!("{}", line(&cells));
        }
        self.rows.borrow_mut().push(cells);
        self.save()
    }

    /// All rows, to the terminal.
    pub fn print(&self) {
        println!("\n{}", self.head());
        self.rows.borrow().iter().for_each(|row| println!("{}", line(row)));
    }

    /// A row in `to` for each group of rows with the same first `keys` cells: these, the number of rows,
    /// and the mean and standard deviation of each column after the next one, as many as `to` has.
    ///
    /// # Errors
    /// As [`row`](Table::row).
    pub fn over_seeds(&self, keys: usize, to: &Table) -> Result<()> {
        let rows = self.rows.borrow();
        let mut groups: Vec<(&[String], Vec<&Vec<String>>)> = Vec::new();
        for row in rows.iter() {
            match groups.iter_mut().find(|(key, _)| *key == &row[..keys]) {
                Some((_, group)) => group.push(row),
                None => groups.push((&row[..keys], vec![row])),
            }
        }
        for (key, group) in groups {
            let cell = |column: usize| {
                let values: Vec<f64> =
                    group.iter().filter_map(|row| row[column].parse().ok()).collect();
                let n = values.len() as f64;
                let mean = values.iter().sum::<f64>() / n;
                let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
                match values.len() {
                    0 => "–".into(),
                    1 => format!("{mean}"),
                    _ => format!("{mean:.4} ± {:.4}", (squares / (n - 1.0)).sqrt()),
                }
            };
            let scores = (keys + 1..to.columns.len()).map(cell);
            let count = group.len().to_string();
            to.row(key.iter().cloned().chain([count]).chain(scores))?;
        }
        Ok(())
    }

    fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|c| c.trim_start_matches('<')).collect()
    }

    fn head(&self) -> String {
        let rule = self.columns.iter().map(|c| if c.starts_with('<') { "---" } else { "--:" });
        let rule: Vec<&str> = rule.collect();
        format!("{}\n|{}|", line(&self.names()), rule.join("|"))
    }

    fn save(&self) -> Result<()> {
        let Some((markdown, csv)) = &self.files else { return Ok(()) };
        let mut file = AtomicFile::create(markdown)?;
        let rows = self.rows.borrow();
        let lines = rows.iter().map(|row| line(row)).collect::<Vec<_>>().join("\n");
        write!(file, "{}\n{lines}\n", self.head()).map_err(|e| Error::io(markdown, e))?;
        file.commit()?;

        let mut file = AtomicFile::create(csv)?;
        let mut writer = csv::Writer::from_writer(&mut file);
        let failed = |e: csv::Error| Error::io(csv, std::io::Error::other(e));
        writer.write_record(self.names()).map_err(failed)?;
        rows.iter().try_for_each(|row| writer.write_record(row)).map_err(failed)?;
        writer.flush().map_err(|e| Error::io(csv, e))?;
        drop(writer);
        file.commit()
    }
}

/// One line of Markdown. A bar within a cell would end it.
fn line(cells: &[impl AsRef<str>]) -> String {
    let cells: Vec<String> = cells.iter().map(|c| c.as_ref().replace('|', "\\|")).collect();
    format!("| {} |", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_standard_deviations_are_over_the_rows_of_a_group() {
        let folder = tempfile::tempdir().unwrap();
        let trials = Table::quiet("trials", &["<method", "seed", "score"], Some(folder.path()));
        for (method, seed, score) in [("a|b", 0, 1.0), ("c", 0, 5.0), ("a|b", 1, 3.0)] {
            trials.row([method.to_string(), seed.to_string(), score.to_string()]).unwrap();
        }
        assert!(matches!(trials.row(["a".into()]), Err(Error::Shape { .. })));
        let means = Table::quiet("means", &["<method", "seeds", "score"], Some(folder.path()));
        trials.over_seeds(1, &means).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        // The variance of 1 and 3 is 2.
        let rows = "| a\\|b | 2 | 2.0000 ± 1.4142 |\n| c | 1 | 5 |\n";
        let head = "| method | seeds | score |\n|---|--:|--:|\n";
        assert_eq!(read("means.md"), format!("{head}{rows}"));
        assert_eq!(read("trials.csv"), "method,seed,score\na|b,0,1\nc,0,5\na|b,1,3\n");
    }
}
