//! Transfers with a clock and a client that are made up.

use proptest::prelude::*;
use wire::tftp::Options;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn options(blksize: u16, windowsize: u16) -> Options {
    Options {
        blksize: Some(blksize),
        tsize: Some(0),
        windowsize: (windowsize > 1).then_some(windowsize),
        ..Options::default()
    }
}

/// A transfer of `total` bytes that has sent its OACK, and the time at which it did.
fn begun(total: u64, blksize: u16, windowsize: u16) -> (Transfer, Instant) {
    let now = Instant::now();
    let terms = Terms::agree(&options(blksize, windowsize), total, 65464, 64);
    let (transfer, action) = Transfer::begin(terms, now);
    assert_eq!(action, Action::Oack);
    (transfer, now)
}

/// Lets deadlines pass until the transfer ends; returns the end and how often it sent before.
fn exhaust(transfer: &mut Transfer) -> (End, u32, Instant) {
    for sent in 0..100 {
        let deadline = transfer.deadline();
        if let Action::End(end) = transfer.expire(deadline) {
            return (end, sent, deadline);
        }
    }
    panic!("it never ends");
}

#[test]
fn no_block_goes_out_before_the_options_are_agreed_upon() {
    let (mut transfer, now) = begun(1000, 512, 1);
    assert_eq!(transfer.acknowledge(1, now), Action::Wait);
    assert_eq!(transfer.acknowledge(0, now), Action::Send(1..2));
}

#[test]
fn without_options_the_first_block_is_the_answer() {
    let now = Instant::now();
    let terms = Terms::agree(&Options::default(), 1000, 1468, 64);
    let (mut transfer, action) = Transfer::begin(terms, now);
    assert_eq!(action, Action::Send(1..2));
    assert_eq!(transfer.acknowledge(1, now), Action::Send(2..3));
    assert_eq!(transfer.acknowledge(2, now), Action::End(End::Delivered));
}

#[test]
fn an_exact_multiple_of_the_block_size_ends_in_an_empty_block() {
    let (mut transfer, now) = begun(1024, 512, 1);
    assert_eq!(transfer.acknowledge(0, now), Action::Send(1..2));
    assert_eq!(transfer.acknowledge(1, now), Action::Send(2..3));
    assert_eq!(transfer.acknowledge(2, now), Action::Send(3..4));
    assert_eq!(transfer.delivered(), 1024);
    assert_eq!(transfer.acknowledge(3, now), Action::End(End::Delivered));
}

#[test]
fn a_duplicate_ack_sends_nothing_in_lockstep() {
    let (mut transfer, now) = begun(5000, 512, 1);
    assert_eq!(transfer.acknowledge(0, now), Action::Send(1..2));
    assert_eq!(transfer.acknowledge(0, now), Action::Wait);
    assert_eq!(transfer.acknowledge(1, now), Action::Send(2..3));
    assert_eq!(transfer.acknowledge(1, now), Action::Wait);
    assert_eq!(transfer.acknowledge(0, now), Action::Wait);
    assert_eq!(transfer.acknowledge(2, now), Action::Send(3..4));
}

#[test]
fn an_ack_from_the_future_sends_nothing() {
    let (mut transfer, now) = begun(50_000, 512, 4);
    assert_eq!(transfer.acknowledge(0, now), Action::Send(1..5));
    assert_eq!(transfer.acknowledge(5, now), Action::Wait);
    assert_eq!(transfer.acknowledge(40_000, now), Action::Wait);
    assert_eq!(transfer.acknowledge(4, now), Action::Send(5..9));
}

#[test]
fn an_ack_inside_the_window_goes_on_after_it() {
    let (mut transfer, now) = begun(50_000, 512, 4);
    assert_eq!(transfer.acknowledge(0, now), Action::Send(1..5));
    assert_eq!(transfer.acknowledge(2, now), Action::Send(3..7));
}

#[test]
fn a_window_whose_first_block_was_lost_is_sent_again_at_once_and_once() {
    let (mut transfer, now) = begun(50_000, 512, 4);
    assert_eq!(transfer.acknowledge(0, now), Action::Send(1..5));
    assert_eq!(transfer.acknowledge(4, now), Action::Send(5..9));
    assert_eq!(transfer.acknowledge(4, now), Action::Send(5..9));
    for _ in 0..1000 {
        assert_eq!(transfer.acknowledge(4, now), Action::Wait);
    }
}

#[test]
fn an_echo_of_a_window_sent_twice_reports_no_gap() {
    let (mut transfer, now) = begun(50_000, 512, 4);
    assert_eq!(transfer.acknowledge(0, now), Action::Send(1..5));
    assert_eq!(transfer.acknowledge(0, now), Action::Send(1..5));
    assert_eq!(transfer.acknowledge(4, now), Action::Send(5..9));
    assert_eq!(transfer.acknowledge(4, now), Action::Wait);
    assert_eq!(transfer.acknowledge(8, now), Action::Send(9..13));
    assert_eq!(transfer.acknowledge(8, now), Action::Send(9..13));
}

#[test]
fn a_size_probe_ends_the_transfer() {
    for code in [0, 8] {
        let (transfer, _) = begun(5000, 512, 1);
        assert_eq!(transfer.client_error(ErrorCode(code)), Action::End(End::Probed));
    }
}

#[test]
fn an_error_at_the_first_block_is_a_probe_too() {
    let (mut transfer, now) = begun(5000, 512, 1);
    assert_eq!(transfer.acknowledge(0, now), Action::Send(1..2));
    assert_eq!(transfer.client_error(ErrorCode::NOT_DEFINED), Action::End(End::Probed));
}

#[test]
fn an_error_in_the_middle_is_abandoning_or_a_failure() {
    let (mut transfer, now) = begun(5000, 512, 1);
    let _ = (transfer.acknowledge(0, now), transfer.acknowledge(1, now));
    assert_eq!(transfer.client_error(ErrorCode::NOT_DEFINED), Action::End(End::Abandoned));
    let failure = Failure::Client(ErrorCode::ALLOCATION_EXCEEDED);
    let failed = transfer.client_error(ErrorCode::ALLOCATION_EXCEEDED);
    assert_eq!(failed, Action::End(End::Failed(failure)));
}

#[test]
fn closing_instead_of_the_last_ack_is_delivery() {
    let (mut transfer, now) = begun(700, 512, 1);
    let _ = (transfer.acknowledge(0, now), transfer.acknowledge(1, now));
    assert_eq!(transfer.client_error(ErrorCode::NOT_DEFINED), Action::End(End::Delivered));
    assert_eq!(transfer.unreachable(), Action::End(End::Delivered));
    assert_eq!(transfer.replace(), Action::End(End::Delivered));
}

#[test]
fn the_last_ack_may_never_come() {
    let (mut transfer, now) = begun(700, 512, 1);
    let _ = (transfer.acknowledge(0, now), transfer.acknowledge(1, now));
    let (end, sent, ended) = exhaust(&mut transfer);
    assert_eq!(end, End::Delivered);
    assert!((RETRANSMISSIONS_LAST..=12).contains(&sent), "{sent}");
    let took = ended - now;
    assert!(took >= LAST_ACK_TIMEOUT && took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_client_that_never_answered_gets_at_most_five_retransmissions() {
    let (mut transfer, now) = begun(5000, 512, 1);
    let (end, sent, ended) = exhaust(&mut transfer);
    assert_eq!((end, sent), (End::Failed(Failure::Silent), 5));
    assert!(ended - now < Duration::from_secs(30), "{:?}", ended - now);
}

#[test]
fn a_block_that_nobody_acknowledged_is_sent_again_only_when_it_is_asked_for_again() {
    let now = Instant::now();
    let terms = Terms::agree(&Options::default(), 1000, 1468, 64);
    let (mut transfer, first) = Transfer::begin(terms, now);
    assert_eq!(first, Action::Send(1..2));
    assert_eq!(transfer.expire(transfer.deadline()), Action::Wait);
    assert_eq!(transfer.repeat(now + Duration::from_secs(3)), Action::Send(1..2));
    assert_eq!(transfer.expire(transfer.deadline()), Action::Wait);
    let end = transfer.expire(transfer.deadline());
    assert_eq!(end, Action::End(End::Failed(Failure::Silent)));
    let (mut transfer, _) = Transfer::begin(terms, now);
    assert_eq!(transfer.acknowledge(1, now + MS), Action::Send(2..3));
    assert_eq!(transfer.expire(transfer.deadline()), Action::Send(2..3), "who answers is real");
}

#[test]
fn a_client_that_falls_silent_is_given_up_after_half_a_minute() {
    let (mut transfer, now) = begun(5000, 512, 1);
    let _ = (transfer.acknowledge(0, now + MS), transfer.acknowledge(1, now + MS * 2));
    let (end, sent, ended) = exhaust(&mut transfer);
    assert_eq!(end, End::Failed(Failure::Silent));
    assert!((5..=13).contains(&sent), "{sent}");
    let took = ended - now;
    assert!(took >= PROGRESS_TIMEOUT && took < PROGRESS_TIMEOUT + TIMEOUT_MAX * 2, "{took:?}");
}

#[test]
fn deadlines_double_and_stay_bounded() {
    let (mut transfer, mut last) = begun(5000, 512, 1);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let deadline = transfer.deadline();
        waits.push((deadline - last).as_millis());
        last = deadline;
        let _ = transfer.expire(deadline);
    }
    assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 8000]);
}

#[test]
fn a_fast_client_is_waited_for_less() {
    let (mut transfer, mut now) = begun(1 << 20, 512, 1);
    for block in 0..100 {
        now += MS;
        let _ = transfer.acknowledge(block, now);
    }
    assert_eq!(transfer.deadline() - now, TIMEOUT_MIN);
}

#[test]
fn a_slow_client_is_waited_for_longer() {
    let (mut transfer, mut now) = begun(1 << 20, 512, 1);
    for block in 0..20 {
        now += MS * 900;
        let _ = transfer.acknowledge(block, now);
    }
    assert!(transfer.deadline() - now >= MS * 900);
}

#[test]
fn the_clients_timeout_bounds_ours() {
    let now = Instant::now();
    let asked = Options { timeout: Some(1), ..Options::default() };
    let (mut transfer, _) = Transfer::begin(Terms::agree(&asked, 5000, 1468, 64), now);
    for _ in 0..4 {
        let deadline = transfer.deadline();
        let _ = transfer.expire(deadline);
        assert!(transfer.deadline() - deadline <= Duration::from_secs(1));
    }
}

#[test]
fn nothing_expires_early() {
    let (mut transfer, now) = begun(5000, 512, 1);
    assert_eq!(transfer.expire(now + MS * 499), Action::Wait);
    assert_eq!(transfer.expire(now + MS * 500), Action::Oack);
}

#[test]
fn a_stale_ack_does_not_put_off_the_deadline() {
    let (mut transfer, now) = begun(5000, 512, 1);
    let _ = transfer.acknowledge(0, now);
    let deadline = transfer.deadline();
    for n in 0..100 {
        let _ = transfer.acknowledge(0, now + MS * n);
        let _ = transfer.acknowledge(9, now + MS * n);
    }
    assert_eq!(transfer.deadline(), deadline);
}

#[test]
fn a_repeated_request_is_answered_again_until_a_block_has_come() {
    let (mut transfer, now) = begun(5000, 512, 1);
    assert_eq!(transfer.repeat(now), Action::Oack);
    assert_eq!(transfer.acknowledge(0, now), Action::Send(1..2));
    assert_eq!(transfer.repeat(now), Action::Oack);
    assert_eq!(transfer.acknowledge(0, now), Action::Send(1..2));
    assert_eq!(transfer.acknowledge(1, now), Action::Send(2..3));
    assert_eq!(transfer.repeat(now), Action::End(End::Abandoned));
}

#[test]
fn another_request_ends_the_transfer_by_how_far_it_was() {
    let (mut transfer, now) = begun(700, 512, 1);
    assert_eq!(transfer.replace(), Action::End(End::Probed));
    let _ = transfer.acknowledge(0, now);
    assert_eq!(transfer.replace(), Action::End(End::Probed));
    let _ = transfer.acknowledge(1, now);
    assert_eq!(transfer.replace(), Action::End(End::Delivered));
}

#[test]
fn a_client_that_goes_away_ends_the_transfer() {
    let (mut transfer, now) = begun(5000, 512, 1);
    assert_eq!(transfer.unreachable(), Action::End(End::Abandoned));
    let _ = (transfer.acknowledge(0, now), transfer.acknowledge(1, now));
    assert_eq!(transfer.unreachable(), Action::End(End::Failed(Failure::Unreachable)));
}

/// A client that acknowledges as RFC 1350 and RFC 7440 §4 say, and the link to it.
struct Client {
    window: u64,
    /// Blocks that came in order, and the number of the last one of the file.
    have: u64,
    last: u64,
    /// In-order blocks since the last ACK.
    since: u64,
    /// Whether a gap was already reported in this window.
    reported: bool,
}

impl Client {
    /// A block comes; returns the ACK that it causes.
    fn receive(&mut self, block: u16) -> Option<u16> {
        if block == wire_number(self.have + 1) && self.have < self.last {
            self.have += 1;
            self.since += 1;
            self.reported = false;
            if self.since == self.window || self.have == self.last {
                self.since = 0;
                return Some(wire_number(self.have));
            }
            return None;
        }
        // Out of order: once for each gap, and for each old block that is sent again at the end.
        self.since = 0;
        let known = self.have == self.last;
        if known || !std::mem::replace(&mut self.reported, true) {
            return Some(wire_number(self.have));
        }
        None
    }
}

/// Runs a transfer over a link that loses what `lose` says; returns how it ended, whether the client has all, and
/// the packets sent.
///
/// An answer takes two milliseconds. After a silence the client repeats its last ACK, as they all
/// do, and stops to listen five seconds after it has everything.
fn run(total: u64, blksize: u16, windowsize: u16, lose: impl FnMut() -> bool) -> (End, bool, u64) {
    let (end, whole, sent, _) = run_timed(total, blksize, windowsize, MS * 2, lose);
    (end, whole, sent)
}

/// The same with this time for an answer; says how long it took, too.
fn run_timed(
    total: u64,
    blksize: u16,
    windowsize: u16,
    answer: Duration,
    mut lose: impl FnMut() -> bool,
) -> (End, bool, u64, Duration) {
    let start = Instant::now();
    let terms = Terms::agree(&options(blksize, windowsize), total, 65464, 64);
    let (mut transfer, mut action) = Transfer::begin(terms, start);
    let mut client = Client {
        window: u64::from(windowsize.max(1)),
        have: 0,
        last: terms.last_block(),
        since: 0,
        reported: false,
    };
    let mut now = start;
    let mut sent = 0;
    let mut heard_oack = false;
    let mut client_at = start + Duration::from_secs(3);
    // ACKs on their way, in order.
    let mut acks = std::collections::VecDeque::new();
    loop {
        match action {
            Action::Wait => {}
            Action::Oack => {
                sent += 1;
                if !lose() {
                    heard_oack = true;
                    client_at = now + Duration::from_secs(3);
                    if client.have == 0 && !lose() {
                        acks.push_back((now + answer, 0));
                    }
                }
            }
            Action::Send(ref blocks) => {
                assert!(blocks.start >= 1 && blocks.end <= client.last + 1, "{blocks:?}");
                assert!(blocks.end - blocks.start <= client.window);
                for block in blocks.clone() {
                    sent += 1;
                    if lose() {
                        continue;
                    }
                    client_at = now + Duration::from_secs(3);
                    if let Some(ack) = client.receive(wire_number(block))
                        && !lose()
                    {
                        acks.push_back((now + answer, ack));
                    }
                }
            }
            Action::End(end) => {
                return (end, client.have == client.last, sent, now - start);
            }
        }
        let arrives = acks.front().map(|&(at, _)| at);
        if let Some(at) = arrives.filter(|&at| at <= transfer.deadline()) {
            now = now.max(at);
            let (_, ack) = acks.pop_front().unwrap();
            action = transfer.acknowledge(ack, now);
        } else if client_at <= transfer.deadline() && heard_oack && client.have < client.last {
            now = now.max(client_at);
            client_at = now + Duration::from_secs(3);
            if !lose() {
                acks.push_back((now + MS, wire_number(client.have)));
            }
            action = Action::Wait;
        } else {
            now = now.max(transfer.deadline());
            action = transfer.expire(now);
        }
    }
}

#[test]
fn a_clean_link_carries_each_block_once() {
    for window in [1, 4, 16, 64] {
        assert_eq!(run(100_000, 1000, window, || false), (End::Delivered, true, 102));
    }
}

#[test]
fn the_loss_of_any_single_packet_is_repaired() {
    for window in [1, 2, 4, 5, 64] {
        let mut count = 0;
        let _ = run(10_000, 1000, window, || {
            count += 1;
            false
        });
        for lost in 0..count {
            let mut n = 0;
            let (end, whole, sent) = run(10_000, 1000, window, || {
                n += 1;
                n - 1 == lost
            });
            assert_eq!((end, whole), (End::Delivered, true), "window {window}, lost {lost}");
            // At worst a window twice, and some more until both count alike again.
            let most = 12 + 3 * u64::from(window.min(11)) + 3;
            assert!(sent <= most, "window {window}, lost {lost}, sent {sent}");
        }
    }
}

#[test]
fn one_loss_does_not_double_the_rest_of_the_file() {
    for window in [2, 4, 16] {
        for lost in 0..40 {
            let mut n = 0;
            let (_, _, sent) = run(1_000_000, 1000, window, || {
                n += 1;
                n - 1 == lost
            });
            let most = 1002 + 4 * u64::from(window) + 4;
            assert!(sent <= most, "window {window}, lost {lost}, sent {sent}");
        }
    }
}

#[test]
fn a_loss_costs_a_few_answers_and_not_a_fifth_of_a_second() {
    let mut n = 0u64;
    let lose = || {
        n += 1;
        n.is_multiple_of(33)
    };
    let (end, whole, _, took) = run_timed(1 << 20, 512, 1, MS, lose);
    assert_eq!((end, whole), (End::Delivered, true));
    // 2,049 answers of a millisecond, and 128 losses.
    assert!(took < Duration::from_millis(2049 + 128 * 20), "{took:?}");
}

#[test]
fn a_client_that_grows_slower_does_not_have_everything_twice() {
    let (mut transfer, mut now) = begun(1 << 20, 512, 1);
    let mut sent = 0;
    for block in 0..200 {
        let answered = now + if block < 50 { MS } else { MS * 60 };
        while transfer.deadline() < answered {
            now = transfer.deadline();
            sent += u32::from(matches!(transfer.expire(now), Action::Send(_)));
        }
        now = answered;
        let _ = transfer.acknowledge(block, now);
    }
    assert!(sent <= 4, "{sent} of 200 went out twice");
}

#[test]
fn block_numbers_wrap() {
    // 200,000 blocks: over 65535 three times.
    for window in [1, 7, 64] {
        let (end, whole, sent) = run(1_600_000, 8, window, || false);
        assert_eq!((end, whole, sent), (End::Delivered, true, 200_002));
    }
}

#[test]
fn loss_around_the_wrap_is_repaired() {
    for window in [1, 4] {
        let mut n = 0u64;
        let (end, whole, _) = run(8 * 66_000, 8, window, || {
            n += 1;
            n.is_multiple_of(997)
        });
        assert_eq!((end, whole), (End::Delivered, true));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_lossy_link_still_delivers(
        total in 0u64..60_000,
        blksize in 64u16..1500,
        window in prop_oneof![Just(1u16), 2u16..65],
        losses in prop::collection::vec(prop::bool::weighted(0.08), 1..3000),
    ) {
        let mut losses = losses.into_iter();
        let (end, whole, _) = run(total, blksize, window, || losses.next().unwrap_or(false));
        prop_assert_eq!((end, whole), (End::Delivered, true));
    }

    #[test]
    fn a_client_that_sends_anything_cannot_make_us_send_without_bound(
        acks in prop::collection::vec(any::<u16>(), 0..500),
        window in 1u16..65,
    ) {
        let (mut transfer, now) = begun(1 << 20, 512, window);
        let mut sent = 0;
        for (n, ack) in (0u32..).zip(acks) {
            match transfer.acknowledge(ack % 200, now + MS * n) {
                Action::Send(blocks) => {
                    prop_assert!(blocks.end > blocks.start);
                    sent += 1;
                }
                Action::Wait => {}
                ended @ (Action::Oack | Action::End(_)) => {
                    prop_assert_eq!(ended, Action::End(End::Delivered));
                }
            }
        }
        // A window for each block acknowledged, and one more for a repeated ACK.
        prop_assert!(sent <= 2 * (transfer.base + 1));
    }
}
