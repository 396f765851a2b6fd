use super::*;
use crate::boot::timeline::Cause;
use crate::control::InterfaceStatus;
use crate::site::events::Kind;

const SIZE: Size = Size { columns: 120, rows: 24 };

fn machine() -> MachineStatus {
    MachineStatus {
        name: "web1".to_owned(),
        address: Some([10, 0, 0, 9].into()),
        environment: Some("base".to_owned()),
        read_only: Some(false),
        stage: Stage::Kernel,
        sent: 3 << 20,
        progress: Some((42, 100)),
        seconds: 7.25,
        stages: vec![(Stage::Loader, 4.0), (Stage::Kernel, 3.25)],
        seen: Some(75.0),
        ..MachineStatus::default()
    }
}

fn off(name: &str) -> MachineStatus {
    MachineStatus {
        name: name.to_owned(),
        environment: Some("base".to_owned()),
        ..MachineStatus::default()
    }
}

fn status(machines: Vec<MachineStatus>) -> control::Status {
    control::Status { machines, ..control::Status::default() }
}

fn leased(machine: String, text: String) -> Event {
    let (machine, stage) = (Some(machine), Some(Stage::Leased));
    let at = SystemTime::UNIX_EPOCH;
    Event { at, machine, stage, ..Event::new(Kind::AddressLeased, text) }
}

fn texts(screen: &Screen, status: &control::Status, size: Size) -> Vec<String> {
    screen.lines(status, size).into_iter().map(|line| line.text).collect()
}

#[test]
fn a_stage_has_a_bar_for_the_file_on_its_way() {
    assert_eq!(bar(&machine()), "kernel ####......42%");
    let root = MachineStatus { stage: Stage::Root, ..machine() };
    assert_eq!(bar(&root), "root");
    let refused = MachineStatus { trouble: Some("refused".to_owned()), ..machine() };
    assert_eq!(bar(&refused), "refused");
}

#[test]
fn a_picture_is_drawn_over_the_last_one_and_anew_when_the_terminal_has_changed() {
    let mut screen = Screen::default();
    let status = status(vec![machine()]);
    assert!(screen.draw(&status, SIZE).starts_with("\r\x1b[2K1 machine"));
    assert!(screen.draw(&status, SIZE).starts_with("\x1b[4A\r\x1b[2K1 machine"));
    let narrow = Size { columns: 60, ..SIZE };
    assert!(screen.draw(&status, narrow).starts_with("\x1b[H\x1b[2J\r\x1b[2K1 machine"));
}

#[test]
fn colours_are_for_those_who_want_them() {
    let status = status(vec![machine(), off("web2")]);
    let coloured = Screen { colours: true, ..Screen::default() }.draw(&status, SIZE);
    assert!(coloured.contains("\x1b[33mweb1") && coloured.contains("\x1b[2mweb2"), "{coloured:?}");
    let plain = Screen::default().draw(&status, SIZE);
    assert!(!plain.contains("\x1b[33m") && !plain.contains("\x1b[0m"), "{plain:?}");
}

#[test]
fn the_log_keeps_its_place_and_who_boots_comes_first_with_sixty_machines() {
    let mut machines: Vec<_> = (1..=60).map(|number| off(&format!("node{number}"))).collect();
    machines[9] = MachineStatus { name: "node10".to_owned(), ..machine() };
    machines[1] = MachineStatus { name: "node2".to_owned(), ..machine() };
    machines[40].message = Some("see its screen".to_owned());
    machines[40].stage = Stage::Loader;
    let mut screen = Screen::default();
    for number in 0..20 {
        screen.note(&leased(format!("web{number}"), "took 10.0.0.9".to_owned()));
    }
    for size in [Size { columns: 80, rows: 24 }, Size { columns: 200, rows: 50 }] {
        let lines = texts(&screen, &status(machines.clone()), size);
        assert!(lines.len() < size.rows);
        assert!(lines.last().unwrap().contains("web19"), "{lines:#?}");
        let at = |name: &str| lines.iter().position(|line| line.starts_with(name)).unwrap();
        assert!(at("node41 ") < at("node2 ") && at("node2 ") < at("node10 "), "{lines:#?}");
        assert!(at("node10 ") < at("node1 "), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("all of them off")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("see its screen")), "{lines:#?}");
    }
}

#[test]
fn a_picture_never_goes_beyond_the_terminal() {
    let mut screen = Screen::default();
    let message = Some("x ".repeat(100));
    let all = status(vec![MachineStatus { message, ..machine() }; 100]);
    for number in 0..20 {
        screen.note(&leased(format!("web{number}"), "y".repeat(200)));
    }
    for rows in [1, 2, 5, 10, 24, 50] {
        for columns in [1, 20, 60, 80, 100, 200] {
            let lines = texts(&screen, &all, Size { columns, rows });
            assert!(lines.len() < rows.max(2), "{} lines of {rows}", lines.len());
            assert!(lines.iter().all(|line| line.chars().count() <= columns), "{lines:#?}");
        }
    }
}

#[test]
fn what_a_machine_says_does_not_command_the_terminal() {
    let mut screen = Screen::default();
    screen.note(&leased("web1".to_owned(), "\u{1b}]0;title\u{7}".to_owned()));
    let drawn = screen.draw(&control::Status::default(), SIZE);
    assert!(drawn.contains("\\u001b]0;title\\u0007"), "{drawn:?}");
}

/// The pictures in docs/watch.md are what is drawn.
#[test]
fn the_screenshots_in_the_documents_are_what_is_drawn() {
    let mut screen = Screen::default();
    let event = |second, name: &str, stage, text: &str| Event {
        at: SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(second),
        stage: Some(stage),
        ..leased(name.to_owned(), text.to_owned())
    };
    screen.note(&event(
        0,
        "node2",
        Stage::Discover,
        "UEFI PXE: boots base, read-write (boot 4f1c…)",
    ));
    screen.note(&event(4100, "node2", Stage::Loader, "got snponly.efi (268 KiB)"));
    screen.note(&event(9800, "node10", Stage::Root, "mounted /be/base"));
    screen.note(&event(10_200, "node41", Stage::Loader, "snponly.efi is not a program"));
    let mut machines: Vec<_> = (1..=60).map(|number| off(&format!("node{number}"))).collect();
    machines[1] = MachineStatus { name: "node2".to_owned(), ..machine() };
    machines[9] = MachineStatus {
        name: "node10".to_owned(),
        stage: Stage::Running,
        address: Some([10, 0, 0, 18].into()),
        progress: None,
        seconds: 31.5,
        sent: 61 << 20,
        read: 18 << 20,
        written: 410 << 10,
        stages: vec![(Stage::Loader, 4.0), (Stage::Initrd, 9.0), (Stage::Root, 18.5)],
        ..machine()
    };
    machines[40] = MachineStatus {
        name: "node41".to_owned(),
        address: Some([10, 0, 0, 49].into()),
        environment: Some("base".to_owned()),
        stage: Stage::Loader,
        cause: Some(Cause::LoaderBroken),
        message: Some("its loader snponly.efi is not a program: it cannot be started".to_owned()),
        sent: 812,
        seconds: 52.0,
        stages: vec![(Stage::Loader, 52.0)],
        ..MachineStatus::default()
    };
    let (name, mode) = ("br0".to_owned(), "serve".to_owned());
    let interfaces =
        vec![InterfaceStatus { name, address: [10, 0, 0, 1].into(), mode, foreign: None }];
    let status = control::Status { machines, interfaces, ..control::Status::default() };
    let document = include_str!("../../../../docs/watch.md");
    let pictures = [80, 200].map(|columns| {
        let drawn = texts(&screen, &status, Size { columns, rows: 18 }).join("\n");
        format!("```text\n{drawn}\n```\n")
    });
    let there = pictures.iter().all(|picture| document.contains(picture));
    assert!(there, "docs/watch.md:\n{}", pictures.join("\n"));
}
