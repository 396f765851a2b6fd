//! A chart of what was measured (Scalable Vector Graphics 1.1): for each load a point of netbe, one of the
//! peer with their least and most, and the floor, on a logarithmic scale, as loads differ by powers of ten.

use std::fmt::Write as _;

use super::report::{Figure, Limit, Spread};

/// The chart of these figures, in a panel for each unit; `title` says of what, when and where.
pub(super) fn draw(title: &str, peer: &str, figures: &[Figure], limits: &[Limit]) -> String {
    let mut units: Vec<&str> = Vec::new();
    for figure in figures {
        let (_, unit) = split(&figure.name);
        if !units.contains(&unit) {
            units.push(unit);
        }
    }
    let (mut body, mut top) = (String::new(), HEAD);
    for unit in units {
        let rows: Vec<&Figure> =
            figures.iter().filter(|figure| split(&figure.name).1 == unit).collect();
        panel(&mut body, top, unit, &rows, limits);
        top += HEADING + ROW * rows.len() as f64 + GAP;
    }
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" width=\"{WIDTH}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{top}\" fill=\"white\"/>\n"
    );
    write(&mut text, 10.0, 18.0, "start", title);
    let mut x = LEFT;
    for (mark, name) in [(Mark::Netbe, "netbe"), (Mark::Peer, peer), (Mark::Floor, "floor")] {
        // Where nothing is compared, there is nobody else.
        let is_there = match mark {
            Mark::Netbe => true,
            Mark::Peer => figures.iter().any(|figure| figure.peer.median > 0.0),
            Mark::Floor => figures.iter().any(|figure| floor(&figure.name, limits).is_some()),
        };
        if is_there {
            mark.draw(&mut text, x, 34.0);
            write(&mut text, x + 8.0, 38.0, "start", name);
            x += 100.0;
        }
    }
    text + &body + "</svg>\n"
}

/// The rows of one unit, on one scale.
fn panel(out: &mut String, top: f64, unit: &str, rows: &[&Figure], limits: &[Limit]) {
    let floors: Vec<Option<f64>> = rows.iter().map(|figure| floor(&figure.name, limits)).collect();
    let spreads = rows.iter().flat_map(|figure| [figure.netbe, figure.peer]);
    let values = spreads.flat_map(|spread| [spread.least, spread.median, spread.most]);
    let scale = Scale::of(values.chain(floors.iter().flatten().copied()));
    write(out, 10.0, top + 12.0, "start", unit);
    let bottom = top + HEADING + ROW * rows.len() as f64;
    for power in scale.low..=scale.high {
        let (value, x) = (10_f64.powi(power), scale.place(10_f64.powi(power)));
        line(out, (x, top + HEADING - 4.0), (x, bottom), "#dddddd");
        write(out, x, top + 12.0, "middle", &value.to_string());
    }
    for ((place, figure), floor) in rows.iter().enumerate().zip(floors) {
        let y = top + HEADING + ROW * (place as f64 + 0.5);
        write(out, LEFT - 12.0, y + 4.0, "end", split(&figure.name).0);
        if let Some(floor) = floor {
            Mark::Floor.draw(out, scale.place(floor), y);
        }
        let both = [(Mark::Peer, figure.peer, 3.0), (Mark::Netbe, figure.netbe, -3.0)];
        for (mark, Spread { median, least, most }, beside) in both {
            if median > 0.0 {
                let (from, to) = (scale.place(least), scale.place(most));
                line(out, (from, y + beside), (to, y + beside), mark.color());
                mark.draw(out, scale.place(median), y + beside);
            }
        }
        let value = if figure.peer.median > 0.0 {
            format!("{} / {}", number(figure.netbe.median), number(figure.peer.median))
        } else {
            number(figure.netbe.median)
        };
        write(out, LEFT + PLOT + 12.0, y + 4.0, "start", &value);
    }
}

/// What no server can go below at a load, if its unit is one that was probed.
fn floor(name: &str, limits: &[Limit]) -> Option<f64> {
    let (load, unit) = split(name);
    let wanted: &[&str] = match unit {
        "cpu_us_per_mib" => &["tcp_file", "tcp_stream"],
        "cpu_us_per_op" if load.contains("1m.") => &["tcp_file", "tcp_stream"],
        "cpu_us_per_op" => &["tcp_echo"],
        "cpu_us_per_block" | "cpu_us_per_exchange" => &["udp_echo"],
        _ => &[],
    };
    let limit = wanted.iter().find_map(|wanted| {
        limits.iter().find(|limit| limit.name.split('.').next() == Some(wanted))
    });
    limit.map(|limit| limit.before.min(limit.after))
}

/// A figure's load and its unit, which is the last part of its name.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

/// Powers of ten between the left and the right end.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scale {
    low: i32,
    high: i32,
}

impl Scale {
    /// The scale on which all that is more than zero has a place.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let values = values.filter(|value| *value > 0.0);
        let (least, most) = values
            .fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
        if least > most {
            return Self { low: 0, high: 1 };
        }
        let low = (SMALLEST..LARGEST).rev().find(|power| 10_f64.powi(*power) <= least);
        let low = low.unwrap_or(SMALLEST);
        let high = (low + 1..LARGEST).find(|power| 10_f64.powi(*power) >= most);
        Self { low, high: high.unwrap_or(LARGEST) }
    }

    fn place(self, value: f64) -> f64 {
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        let share = (value.max(f64::MIN_POSITIVE).log10() - low) / (high - low);
        LEFT + PLOT * share.clamp(0.0, 1.0)
    }
}

/// What is drawn of a value.
#[derive(Clone, Copy, Debug)]
enum Mark {
    Netbe,
    Peer,
    Floor,
}

impl Mark {
    /// Colours that people who see few of them tell apart.
    const fn color(self) -> &'static str {
        match self {
            Self::Netbe => "#0072b2",
            Self::Peer => "#d55e00",
            Self::Floor => "#777777",
        }
    }

    fn draw(self, out: &mut String, x: f64, y: f64) {
        let color = self.color();
        // Writing to a string does not fail.
        let _ = match self {
            Self::Netbe => {
                writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>")
            }
            Self::Peer => writeln!(
                out,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"6\" height=\"6\" fill=\"{color}\"/>",
                x - 3.0,
                y - 3.0
            ),
            Self::Floor => return line(out, (x, y - ROW / 2.0), (x, y + ROW / 2.0), color),
        };
    }
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), color: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{color}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn write(out: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    // Writing to a string does not fail.
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

fn number(value: f64) -> String {
    if value >= 100.0 || value == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// The powers of ten between which all figures are.
const SMALLEST: i32 = -6;
const LARGEST: i32 = 12;
const WIDTH: f64 = 860.0;
/// Where the scale begins, and how long it is.
const LEFT: f64 = 230.0;
const PLOT: f64 = 480.0;
/// Room for the title and the legend, for a panel's heading, for a row, and below a panel.
const HEAD: f64 = 50.0;
const HEADING: f64 = 24.0;
const ROW: f64 = 18.0;
const GAP: f64 = 14.0;

#[cfg(test)]
mod test {
    use super::*;

    fn figure(name: &str, netbe: f64, peer: f64) -> Figure {
        let spread = |value| Spread { median: value, least: value / 2.0, most: value * 2.0 };
        Figure { name: name.to_owned(), netbe: spread(netbe), peer: spread(peer) }
    }

    fn count(text: &str, wanted: &str) -> usize {
        text.matches(wanted).count()
    }

    #[test]
    fn every_load_has_a_point_of_both_and_its_floor() {
        let figures = [
            figure("http.c1.cpu_us_per_mib", 300.0, 200.0),
            figure("http.c1.mib_s", 2800.0, 3900.0),
            figure("http.c8.cpu_us_per_mib", 240.0, 210.0),
        ];
        let limits = [Limit { name: "tcp_stream.cpu_us_per_mib", before: 150.0, after: 190.0 }];
        let svg = draw("a & b", "nginx", &figures, &limits);
        // One more of each is in the legend.
        assert_eq!((count(&svg, "<circle"), count(&svg, "width=\"6\"")), (4, 4));
        assert_eq!(count(&svg, "stroke=\"#777777\""), 3);
        assert!(svg.contains(">a &amp; b</text>") && svg.contains(">300 / 200</text>"), "{svg}");
        assert_eq!(count(&svg, ">cpu_us_per_mib</text>"), 1);
    }

    #[test]
    fn who_has_no_peer_stands_alone() {
        let alone =
            |name: &str, value| Figure { peer: Spread::default(), ..figure(name, value, 0.0) };
        let svg =
            draw("t", "none", &[alone("storm1000.lost", 0.0), alone("storm1000.s", 20.0)], &[]);
        assert_eq!((count(&svg, "<circle"), count(&svg, "width=\"6\"")), (2, 0));
        assert!(!svg.contains(">none<") && svg.contains(">0</text>"), "{svg}");
    }

    #[test]
    fn a_scale_holds_all_that_is_more_than_zero() {
        assert_eq!(Scale::of([0.0, 3.0, 2000.0].into_iter()), Scale { low: 0, high: 4 });
        assert_eq!(Scale::of([10.0].into_iter()), Scale { low: 1, high: 2 });
        assert_eq!(Scale::of([0.0].into_iter()), Scale { low: 0, high: 1 });
        let scale = Scale { low: 0, high: 4 };
        assert!((scale.place(100.0) - (LEFT + PLOT / 2.0)).abs() < 1e-9);
    }

    #[test]
    fn floors_are_of_the_same_work() {
        let limit = |name| Limit { name, before: 2.0, after: 1.0 };
        let limits = [limit("tcp_echo.cpu_us_per_op"), limit("tcp_file.cpu_us_per_mib")];
        assert_eq!(floor("getattr.c1.d1.cpu_us_per_op", &limits), Some(1.0));
        assert_eq!(floor("read1m.c1.d1.cpu_us_per_op", &limits[..1]), None);
        assert_eq!(floor("read1m.c1.d1.cpu_us_per_op", &limits), Some(1.0));
        assert_eq!(floor("getattr.c1.d1.per_s", &limits), None);
    }
}
