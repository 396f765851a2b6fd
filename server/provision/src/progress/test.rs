use indicatif::{ProgressDrawTarget, TermLike};

use super::*;

/// A terminal of eighty columns, and what was written on it.
#[derive(Clone, Debug, Default)]
struct Terminal(Arc<Mutex<String>>);

impl Terminal {
    /// What was written since it was asked last.
    fn taken(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        80
    }

    fn move_cursor_up(&self, _lines: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _lines: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _columns: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _columns: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.write_str(line)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.lock().unwrap().push_str(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.lock().unwrap().push('\r');
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn on_terminal() -> (Display, Terminal) {
    let terminal = Terminal::default();
    let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
    (Display::new(ProgressBar::with_draw_target(None, target)), terminal)
}

fn elsewhere() -> Display {
    Display::new(ProgressBar::hidden())
}

fn task(what: &str, unit: Unit, total: Option<u64>) -> Arc<Task> {
    Arc::new(Task::new(what.to_owned(), unit, total))
}

/// What stands on the terminal: what was drawn last.
fn last(terminal: &Terminal) -> String {
    terminal.taken().rsplit('\r').next().unwrap().trim_end().to_owned()
}

const SECOND: Duration = Duration::from_secs(1);
const MIB: u64 = 1 << 20;

#[test]
fn what_ends_within_a_second_is_not_shown() {
    let (mut display, terminal) = on_terminal();
    let (begun, copy) = (Instant::now(), task("clone head", Unit::Bytes, Some(MIB)));
    display.begin(&copy, begun);
    for tenths in 1..10 {
        copy.advance(MIB / 10);
        assert_eq!(display.glance(begun + SECOND / 10 * tenths), None);
    }
    display.end(&copy);
    assert_eq!(terminal.taken(), "");
}

#[test]
fn on_a_terminal_it_is_one_line_with_a_bar_a_rate_and_the_time_that_is_left() {
    let (mut display, terminal) = on_terminal();
    let (begun, copy) = (Instant::now(), task("clone head", Unit::Bytes, Some(100 * MIB)));
    display.begin(&copy, begun);
    display.glance(begun);
    for seconds in 1..=4 {
        copy.advance(10 * MIB);
        assert_eq!(display.glance(begun + SECOND * seconds), None, "nothing is said beside it");
    }
    let line = last(&terminal);
    assert!(line.starts_with("clone head ██"), "{line}");
    assert!(line.ends_with("40.0 MiB of 100 MiB, 10.0 MiB/s, 0:06 left"), "{line}");
    assert!(line.chars().count() <= 80, "{line}");
    display.end(&copy);
    assert_eq!(last(&terminal), "", "it is cleared at the end");
}

#[test]
fn what_is_done_is_as_long_as_there_is_room() {
    let (mut display, terminal) = on_terminal();
    let (begun, copy) = (Instant::now(), task(&"x".repeat(200), Unit::Bytes, Some(100 * MIB)));
    display.begin(&copy, begun);
    display.glance(begun + SECOND);
    let line = last(&terminal);
    assert!(line.ends_with(" 0 B of 100 MiB") && line.chars().count() <= 80, "{line}");
}

#[test]
fn elsewhere_it_is_a_line_now_and_then() {
    let mut display = elsewhere();
    let (begun, removal) = (Instant::now(), task("destroy web", Unit::Files, None));
    display.begin(&removal, begun);
    let mut said = Vec::new();
    for tenths in 0..=350 {
        removal.advance(10);
        said.extend(display.glance(begun + SECOND / 10 * tenths));
    }
    assert_eq!(
        said,
        [
            "destroy web: 1010 files, 100/s, 0:10",
            "destroy web: 2010 files, 100/s, 0:20",
            "destroy web: 3010 files, 100/s, 0:30",
        ]
    );
}

#[test]
fn the_rate_is_that_of_the_last_seconds() {
    let mut display = elsewhere();
    let (begun, copy) = (Instant::now(), task("copy", Unit::Bytes, Some(1000 * MIB)));
    display.begin(&copy, begun);
    let mut said = None;
    for tenths in 0..=200 {
        copy.advance(if tenths < 100 { MIB } else { 4 * MIB });
        said = display.glance(begun + SECOND / 10 * tenths).or(said);
    }
    assert_eq!(said.as_deref(), Some("copy: 504 MiB of 1000 MiB, 40.0 MiB/s, 0:13 left"));
}

#[test]
fn a_part_is_told_with_the_work_that_it_is_a_part_of() {
    let mut display = elsewhere();
    let begun = Instant::now();
    let (whole, part) =
        (task("thin head", Unit::Nothing, None), task("compare", Unit::Files, None));
    display.begin(&whole, begun);
    let again = task("thin head", Unit::Nothing, None);
    display.begin(&again, begun);
    assert_eq!(display.glance(begun + SECOND * 29), None, "it may wait for another command");
    assert_eq!(display.glance(begun + SECOND * 30).as_deref(), Some("thin head: 0:30"));
    display.begin(&part, begun + SECOND * 32);
    part.advance(7);
    assert_eq!(display.glance(begun + SECOND * 39), None, "it is too soon");
    let said = display.glance(begun + SECOND * 40);
    assert_eq!(said.as_deref(), Some("thin head: compare: 7 files, 0:08"));
    display.end(&part);
    assert_eq!(display.glance(begun + SECOND * 70).as_deref(), Some("thin head: 1:10"));
    display.end(&whole);
    display.end(&again);
    assert_eq!(display.glance(begun + SECOND * 600), None);
}

#[test]
fn names_do_not_command_the_terminal() {
    let mut display = elsewhere();
    let (begun, copy) = (Instant::now(), task("clone \x1b]0;x\x07", Unit::Nothing, None));
    display.begin(&copy, begun);
    let said = display.glance(begun + SECOND * 30).unwrap();
    assert_eq!(said, "clone \\u001b]0;x\\u0007: 0:30");
}

#[test]
fn a_count_beyond_its_total_is_the_total() {
    let mut display = elsewhere();
    let (begun, copy) = (Instant::now(), task("copy", Unit::Bytes, Some(MIB)));
    display.begin(&copy, begun);
    copy.advance(2 * MIB);
    assert_eq!(display.glance(begun + SECOND * 3700).as_deref(), Some("copy: 1.0 MiB of 1.0 MiB"));
    assert_eq!(time(SECOND * 3700), "1:01:40");
}
