//! Colour and tables for a terminal; [`anstream`] takes the colour away where there is none.

use std::fmt;

use anstyle::{AnsiColor, Style};

/// What a line means to somebody who glances at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
    Faint,
    Strong,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Tone::Plain => Style::new(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Warning => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
            Tone::Faint => Style::new().dimmed(),
            Tone::Strong => Style::new().bold(),
        }
    }
}

/// Text in a tone.
pub struct Painted<T>(pub Tone, pub T);

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = self.0.style();
        write!(f, "{style}{}{style:#}", self.1)
    }
}

/// Columns as wide as their widest cell; the last one runs free.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<(Tone, Vec<String>)>,
}

impl Table {
    pub fn with_header(cells: &[&str]) -> Table {
        let mut table = Table::default();
        table.row(Tone::Faint, cells.iter().map(|cell| (*cell).to_owned()).collect());
        table
    }

    pub fn row(&mut self, tone: Tone, cells: Vec<String>) {
        self.rows.push((tone, cells));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(|(_, cells)| cells.len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows
                    .iter()
                    .filter_map(|(_, cells)| cells.get(column))
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for (tone, cells) in &self.rows {
            let mut line = String::from("  ");
            for (column, cell) in cells.iter().enumerate() {
                line.push_str(cell);
                if column + 1 < cells.len() {
                    let gap = widths[column] - cell.chars().count() + 2;
                    line.extend(std::iter::repeat_n(' ', gap));
                }
            }
            writeln!(f, "{}", Painted(*tone, line.trim_end()))?;
        }
        Ok(())
    }
}

/// Sets as people read them: sorted, separated by commas, `none` where there is nothing.
pub fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

/// Milliseconds with one decimal below ten: enough to compare stages by eye.
pub fn milliseconds(us: Option<u64>) -> String {
    match us {
        None => "-".to_owned(),
        Some(us) if us < 10_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        Some(us) => format!("{} ms", us / 1000),
    }
}

/// A length of time as people say it: seconds below an hour, whole minutes below two days, then hours.
pub fn span(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let seconds = seconds.max(0);
    let parts = |big: i64, big_name: &str, small: i64, small_name: &str| match (big, small) {
        (0, small) => format!("{small} {small_name}"),
        (big, 0) => format!("{big} {big_name}"),
        (big, small) => format!("{big} {big_name} {small} {small_name}"),
    };
    if seconds < HOUR {
        return parts(seconds / MINUTE, "min", seconds % MINUTE, "s");
    }
    let minutes = (seconds + MINUTE / 2) / MINUTE;
    if seconds < 2 * DAY {
        return parts(minutes / 60, "h", minutes % 60, "min");
    }
    let hours = (seconds + HOUR / 2) / HOUR;
    parts(hours / 24, "days", hours % 24, "h")
}

/// A length that is never negative and always fits.
pub fn span_of(seconds: u64) -> String {
    span(i64::try_from(seconds).unwrap_or(i64::MAX / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::with_header(&["a", "long header", "z"]);
        table.row(Tone::Plain, vec!["äöü".into(), "b".into(), "last".into()]);
        let text = anstream::adapter::strip_str(&table.to_string()).to_string();
        assert_eq!(text, "  a    long header  z\n  äöü  b            last\n");
    }

    #[test]
    fn lengths_of_time_are_said_as_people_say_them() {
        for (seconds, said) in [
            (-3, "0 s"),
            (45, "45 s"),
            (60, "1 min"),
            (3_599, "59 min 59 s"),
            (5_400, "1 h 30 min"),
            (86_212, "23 h 57 min"),
            (86_400, "24 h"),
            (260_000, "3 days"),
            (300_000, "3 days 11 h"),
        ] {
            assert_eq!(span(seconds), said);
        }
    }

    #[test]
    fn figures() {
        assert_eq!(milliseconds(None), "-");
        assert_eq!(milliseconds(Some(1_234)), "1.2 ms");
        assert_eq!(milliseconds(Some(12_345)), "12 ms");
        assert_eq!(list(Vec::<u8>::new()), "none");
    }
}
