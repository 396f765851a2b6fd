//! What was measured, for people and for programs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::chart;
use crate::failure::{During, Failure};
use crate::lab::Lab;
use crate::process::Program;

/// The middle of several measurements, and how far they lie apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spread {
    /// The median.
    pub(super) median: f64,
    /// The smallest.
    pub(super) least: f64,
    /// The largest.
    pub(super) most: f64,
}

impl Spread {
    /// The spread of these numbers; zeros when there are none.
    pub(super) fn of(numbers: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or_default();
        let last = sorted.len().saturating_sub(1);
        // The two in the middle are the same one when their number is odd.
        let median = f64::midpoint(at(last / 2), at(last.div_ceil(2)));
        Self { median, least: at(0), most: at(last) }
    }
}

/// A number of both servers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    /// Its name, as in `getattr.c1.d32.cpu_us_per_op`; the last part is the unit.
    pub(super) name: String,
    /// What netbe reached.
    pub(super) netbe: Spread,
    /// What the peer reached.
    pub(super) peer: Spread,
}

impl Figure {
    /// netbe's median over the peer's; nothing where the peer's is zero.
    pub(super) fn ratio(&self) -> Option<f64> {
        (self.peer.median > 0.0).then(|| self.netbe.median / self.peer.median)
    }
}

/// What the network and the processor allow anybody, measured around the same minutes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Limit {
    /// Its name, with the unit as the last part.
    pub(super) name: &'static str,
    /// Before the servers were measured.
    pub(super) before: f64,
    /// After it.
    pub(super) after: f64,
}

/// All that a benchmark found.
#[derive(Clone, Debug)]
pub(super) struct Report {
    comparisons: Vec<Comparison>,
    machine: Vec<(&'static str, String)>,
}

/// Figures of netbe beside one peer.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    /// The program beside which netbe was measured.
    pub(super) peer: &'static str,
    /// The words by which it tells its version.
    pub(super) version: String,
    /// What was measured, in turns.
    pub(super) figures: Vec<Figure>,
    /// What was possible meanwhile.
    pub(super) limits: Vec<Limit>,
}

impl Report {
    /// A report about figures that were just measured.
    pub(super) fn new(lab: &Lab, comparisons: Vec<Comparison>) -> Result<Self, Failure> {
        let netbe = Program::new(lab.release()?).arg("--version").run(LIMIT)?;
        let commit =
            Program::new("git").words("describe --always --dirty").directory(Lab::checkout());
        let commit = commit.finish(LIMIT).map(|done| done.stdout.trim().to_owned());
        let mut machine = vec![
            ("date", Program::new("date").words("-u +%FT%RZ").run(LIMIT)?.trim().to_owned()),
            ("processor", processor()),
            ("processors", thread::available_parallelism().map_or(0, usize::from).to_string()),
            ("kernel", first_line("/proc/sys/kernel/osrelease")),
            ("load", first_line("/proc/loadavg")),
            ("netbe", format!("{} {}", netbe.trim(), commit.unwrap_or_default())),
        ];
        machine.extend(comparisons.iter().map(|one| (one.peer, one.version.clone())));
        Ok(Self { comparisons, machine })
    }

    /// The report as a table for each peer.
    pub(super) fn table(&self) -> String {
        let mut text: String = self.comparisons.iter().map(Comparison::table).collect();
        text.push('\n');
        for (name, value) in &self.machine {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name}: {value}");
        }
        text
    }

    /// Writes the report as JSON.
    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(&self.value()).during("the report")?;
        fs::write(path, text + "\n").during(path.display())
    }

    /// Writes the report as a chart; those of further peers beside it, with their names.
    pub(super) fn write_chart(&self, subject: &str, path: &Path) -> Result<(), Failure> {
        let about = |wanted: &str| {
            let found = self.machine.iter().find(|(name, _)| *name == wanted);
            found.map_or("", |(_, value)| value.as_str())
        };
        let title = format!(
            "{subject}, {}, {} x {}, load {}",
            about("date"),
            about("processors"),
            about("processor"),
            about("load").split_whitespace().next().unwrap_or_default()
        );
        for (number, one) in self.comparisons.iter().enumerate() {
            let chart = chart::draw(&title, one.peer, &one.figures, &one.limits);
            let stem = path.file_stem().unwrap_or_default().display();
            let path = match number {
                0 => path.to_owned(),
                _ => path.with_file_name(format!("{stem}-{}.svg", one.peer)),
            };
            fs::write(&path, chart).during(path.display())?;
        }
        Ok(())
    }

    fn value(&self) -> Value {
        let figures = |one: &Comparison| {
            let peer = one.peer;
            let figure = move |figure: &Figure| {
                json!({
                    "name": figure.name,
                    "netbe": figure.netbe.median,
                    "netbe_range": [figure.netbe.least, figure.netbe.most],
                    "peer": peer,
                    "peer_value": figure.peer.median,
                    "peer_range": [figure.peer.least, figure.peer.most],
                    "ratio": figure.ratio(),
                })
            };
            one.figures.iter().map(figure).collect::<Vec<_>>()
        };
        let figures: Vec<Value> = self.comparisons.iter().flat_map(figures).collect();
        let limits = |one: &Comparison| {
            let peer = one.peer;
            let limit = move |limit: &Limit| {
                let Limit { name, before, after } = limit;
                json!({"name": name, "peer": peer, "before": before, "after": after})
            };
            one.limits.iter().map(limit).collect::<Vec<_>>()
        };
        let limits: Vec<Value> = self.comparisons.iter().flat_map(limits).collect();
        let machine: serde_json::Map<String, Value> = self
            .machine
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str())))
            .collect();
        json!({"figures": figures, "limits": limits, "machine": machine})
    }
}

impl Comparison {
    fn table(&self) -> String {
        let mut text = String::from("\n");
        let width = self.figures.iter().map(|figure| figure.name.len()).max().unwrap_or(0);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:width$}  {:>10} {:>19}  {:>10} {:>19}  {:>6}",
            "figure", "netbe", "(least-most)", self.peer, "(least-most)", "ratio"
        );
        for figure in &self.figures {
            let ratio =
                figure.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let _ = writeln!(
                text,
                "{:width$}  {:>10} {:>19}  {:>10} {:>19}  {ratio:>6}",
                figure.name,
                number(figure.netbe.median),
                range(figure.netbe),
                number(figure.peer.median),
                range(figure.peer),
            );
        }
        let _ = writeln!(text, "\nWhat this computer and network allow, before and after:");
        for limit in &self.limits {
            let (before, after) = (number(limit.before), number(limit.after));
            let _ = writeln!(text, "  {:36} {before:>10} {after:>10}", limit.name);
        }
        text
    }
}

/// A number with three digits that matter.
fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn range(spread: Spread) -> String {
    format!("{}-{}", number(spread.least), number(spread.most))
}

/// The version of a crate that this checkout is built with.
pub(super) fn locked(name: &str) -> Result<String, Failure> {
    let path = Lab::checkout().join("Cargo.lock");
    let text = fs::read_to_string(&path).during(path.display())?;
    let mut lines = text.lines().skip_while(|line| *line != format!("name = \"{name}\""));
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = "));
    let version = version.ok_or_else(|| Failure::said(format!("{name} is not in Cargo.lock")))?;
    Ok(format!("{name} {}", version.trim_matches('"')))
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name"));
    model.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned()
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim_end().to_owned()
}

const LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        let spread = Spread::of([9.0, 1.0, 2.0]);
        assert_eq!(spread, Spread { median: 2.0, least: 1.0, most: 9.0 });
    }

    #[test]
    fn the_median_of_two_lies_between_them() {
        assert_eq!(Spread::of([1.0, 2.0]), Spread { median: 1.5, least: 1.0, most: 2.0 });
    }

    #[test]
    fn a_figure_is_written_with_its_peer_and_ratio() {
        let same = |value| Spread { median: value, least: value, most: value };
        let figure = Figure { name: "x.us".to_owned(), netbe: same(1.0), peer: same(4.0) };
        let (peer, version) = ("other", "1".to_owned());
        let limits = vec![Limit { name: "y", before: 1.0, after: 2.0 }];
        let one = Comparison { peer, version, figures: vec![figure], limits };
        let report = Report { comparisons: vec![one], machine: vec![] };
        let value = report.value();
        let expected = json!({
            "name": "x.us", "netbe": 1.0, "netbe_range": [1.0, 1.0], "peer": "other",
            "peer_value": 4.0, "peer_range": [4.0, 4.0], "ratio": 0.25,
        });
        assert_eq!(value.pointer("/figures/0"), Some(&expected));
        let expected = json!({"name": "y", "peer": "other", "before": 1.0, "after": 2.0});
        assert_eq!(value.pointer("/limits/0"), Some(&expected));
    }
}
