//! What a hunt tries: boot environments and snapshots, in an order that somebody has typed.

use std::fmt;
use std::str::FromStr;

use store::{EnvironmentName, NameError, Point, Snapshot};

/// What is to be tried, as it is typed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Selection {
    /// `head@`: all snapshots of an environment, the oldest first.
    Snapshots(EnvironmentName),
    /// `A..B`: all from one to another.
    Range(String),
    /// `a,b,c`: these, in this order.
    List(Vec<Point>),
}

impl FromStr for Selection {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some(environment) = text.strip_suffix('@') {
            return environment.parse().map(Self::Snapshots);
        }
        if ends(text).next().is_some() {
            return Ok(Self::Range(text.to_owned()));
        }
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self::List)
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshots(environment) => write!(f, "{environment}@"),
            Self::Range(text) => f.write_str(text),
            Self::List(points) => {
                let points: Vec<String> = points.iter().map(ToString::to_string).collect();
                f.write_str(&points.join(","))
            }
        }
    }
}

impl Selection {
    /// Whether the order means something, so that one is searched for.
    pub(crate) const fn is_ordered(&self) -> bool {
        !matches!(self, Self::List(_))
    }
}

/// The ends of a range: names may have full stops, so there may be several ways to read one. In `head@a..b` the
/// second is a snapshot of the same environment.
fn ends(text: &str) -> impl Iterator<Item = (Point, Point)> {
    text.match_indices("..").filter_map(|(at, dots)| {
        let (first, last) = (text.get(..at)?, text.get(at + dots.len()..)?);
        let first: Point = first.parse().ok()?;
        let last = match (&first.snapshot, last.contains('@')) {
            (Some(_), false) => Point::snapshot(&first.environment, &last.parse().ok()?),
            (None, false) | (Some(_) | None, true) => last.parse().ok()?,
        };
        Some((first, last))
    })
}

/// What a store can be asked for: the environments in the order of their names, and snapshots by age.
pub(crate) trait Source {
    /// Why it cannot be read.
    type Error: std::error::Error;

    /// The names of all environments that are no machine's own root, in the order that people expect.
    fn environments(&self) -> Result<Vec<EnvironmentName>, Self::Error>;

    /// The snapshots of an environment, the oldest first.
    fn snapshots(&self, name: &EnvironmentName) -> Result<Vec<Snapshot>, Self::Error>;
}

/// Why there is nothing to try.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelectionError<E: std::error::Error> {
    /// A range has ends that are not in one order.
    #[error(
        "{0} is no range: name two snapshots of one environment (head@a..b), the older one first, or two \
         environments in the order of `netbe list`"
    )]
    Range(String),
    /// There is nothing.
    #[error("{0} has no snapshots: make some with `netbe snapshot {0}@NAME`")]
    NoSnapshots(EnvironmentName),
    /// One is named twice.
    #[error("{0} is named twice: name each once")]
    Twice(Point),
    /// The store cannot be read.
    #[error("{0}")]
    Store(E),
}

/// What is to be tried, in order.
pub(crate) fn candidates<S: Source>(
    selection: &Selection,
    source: &S,
) -> Result<Vec<Point>, SelectionError<S::Error>> {
    match selection {
        Selection::Snapshots(environment) => {
            let all = snapshots(source, environment).map_err(SelectionError::Store)?;
            if all.is_empty() {
                return Err(SelectionError::NoSnapshots(environment.clone()));
            }
            Ok(all)
        }
        Selection::Range(text) => {
            for (first, last) in ends(text) {
                let all = match (&first.snapshot, &last.snapshot) {
                    (Some(_), Some(_)) if first.environment == last.environment => {
                        snapshots(source, &first.environment).map_err(SelectionError::Store)?
                    }
                    (None, None) => {
                        let names = source.environments().map_err(SelectionError::Store)?;
                        names.into_iter().map(Point::from).collect()
                    }
                    (Some(_) | None, Some(_) | None) => continue,
                };
                let place = |end: &Point| all.iter().position(|point| point == end);
                let found = place(&first).zip(place(&last));
                if let Some(part) = found.and_then(|(first, last)| all.get(first..=last))
                    && !part.is_empty()
                {
                    return Ok(part.to_vec());
                }
            }
            Err(SelectionError::Range(text.clone()))
        }
        Selection::List(points) => {
            let twice = points
                .iter()
                .enumerate()
                .find(|(place, point)| points.iter().take(*place).any(|before| before == *point));
            twice.map_or_else(
                || Ok(points.clone()),
                |(_, point)| Err(SelectionError::Twice(point.clone())),
            )
        }
    }
}

fn snapshots<S: Source>(source: &S, name: &EnvironmentName) -> Result<Vec<Point>, S::Error> {
    let all = source.snapshots(name)?.into_iter().filter(|snapshot| !snapshot.automatic);
    Ok(all.map(|snapshot| Point::snapshot(name, &snapshot.name)).collect())
}

#[cfg(test)]
mod test {
    use std::convert::Infallible;
    use std::time::SystemTime;

    use super::*;

    struct Fixed;

    impl Source for Fixed {
        type Error = Infallible;

        fn environments(&self) -> Result<Vec<EnvironmentName>, Infallible> {
            Ok(["r9.0", "r10.1", "r10.2", "s..x"].map(|name| name.parse().unwrap()).to_vec())
        }

        fn snapshots(&self, name: &EnvironmentName) -> Result<Vec<Snapshot>, Infallible> {
            let names: &[&str] =
                if name.as_str() == "head" { &["z", "auto", "m", "a"] } else { &[] };
            let snapshot = |name: &&str| Snapshot {
                name: name.parse().unwrap(),
                uuid: uuid::Uuid::nil(),
                created: SystemTime::UNIX_EPOCH.into(),
                automatic: *name == "auto",
                clones: Vec::new(),
                more_clones: false,
            };
            Ok(names.iter().map(snapshot).collect())
        }
    }

    fn told(text: &str) -> String {
        let Ok(selection) = text.parse::<Selection>() else { return "no name".to_owned() };
        assert_eq!(selection.to_string(), text);
        match candidates(&selection, &Fixed) {
            Ok(points) => points.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn snapshots_ranges_and_lists_are_told_apart() {
        assert_eq!(told("head@"), "head@z head@m head@a");
        assert_eq!(told("head@z..m"), "head@z head@m");
        assert_eq!(told("head@m..head@a"), "head@m head@a");
        assert_eq!(told("r9.0..r10.2"), "r9.0 r10.1 r10.2");
        assert_eq!(told("r10.2..s..x"), "r10.2 s..x");
        assert_eq!(told("r9.0"), "r9.0");
        assert_eq!(told("r9.0,head@m,r10.1"), "r9.0 head@m r10.1");
    }

    #[test]
    fn what_cannot_be_tried_is_named() {
        for text in ["head@a..z", "r10.1..r9.0", "head@z..r9.0", "head@z..other@m", "r9.0..none"] {
            assert!(told(text).starts_with(&format!("{text} is no range")), "{}", told(text));
        }
        assert!(told("empty@").starts_with("empty has no snapshots"));
        assert_eq!(told("r9.0,r10.1,r9.0"), "r9.0 is named twice: name each once");
        assert_eq!(told("a/b"), "no name");
    }
}
