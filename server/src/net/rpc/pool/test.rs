use std::sync::mpsc;

use super::*;
use crate::clock::{FakeClock, SystemClock};

const TEST_TIMEOUT: Duration = Duration::from_secs(10);
const ONE: ClassId = Some(Uuid::from_u128(1));
const OTHER: ClassId = Some(Uuid::from_u128(2));

fn pool(threads: usize, calls: usize, bytes: usize) -> Pool {
    Pool::new(Bounds { threads, calls, bytes }, Arc::new(SystemClock))
}

fn run(pool: &Pool, class: ClassId, job: impl FnOnce() + Send + 'static) {
    pool.run(pool.try_admit(class, 1).unwrap(), |_permit| job());
}

/// Jobs of a class that run until the sender is dropped; waits until `started` of them do.
fn hang(pool: &Pool, class: ClassId, jobs: usize, started: usize) -> Vec<mpsc::Sender<()>> {
    let (began, begun) = mpsc::channel();
    let gates = (0..jobs).map(|_| {
        let (open, gate) = mpsc::channel::<()>();
        let began = began.clone();
        run(pool, class, move || {
            began.send(()).unwrap();
            assert!(gate.recv().is_err());
        });
        open
    });
    let gates = gates.collect();
    for _ in 0..started {
        begun.recv_timeout(TEST_TIMEOUT).unwrap();
    }
    gates
}

#[test]
fn jobs_run_side_by_side() {
    let pool = pool(4, 10, 1000);
    let (there, meet) = (mpsc::channel(), mpsc::channel());
    let (there_a, meet_b) = (there.0.clone(), meet.0.clone());
    run(&pool, ONE, move || {
        there_a.send(()).unwrap();
        meet.1.recv_timeout(TEST_TIMEOUT).unwrap();
        there.0.send(()).unwrap();
    });
    run(&pool, ONE, move || meet_b.send(()).unwrap());
    there.1.recv_timeout(TEST_TIMEOUT).unwrap();
    there.1.recv_timeout(TEST_TIMEOUT).unwrap();
    assert!(pool.shared.lock().threads <= 4);
}

#[test]
fn no_more_threads_start_than_allowed() {
    let pool = pool(2, 1000, 1000);
    let (sender, receiver) = mpsc::channel();
    for number in 0..100 {
        let sender = sender.clone();
        run(&pool, ONE, move || sender.send(number).unwrap());
    }
    let mut done: Vec<i32> =
        (0..100).map(|_| receiver.recv_timeout(TEST_TIMEOUT).unwrap()).collect();
    done.sort_unstable();
    assert_eq!(done, (0..100).collect::<Vec<_>>());
    assert!(pool.shared.lock().threads <= 2);
}

#[test]
fn a_class_that_stands_still_leaves_as_many_threads_as_it_holds() {
    let pool = pool(8, 1000, 1000);
    let gates = hang(&pool, ONE, 100, 4);
    let others = hang(&pool, OTHER, 100, 2);
    assert_eq!(pool.shared.lock().running, 6);
    let (sender, receiver) = mpsc::channel();
    for class in 3..30 {
        let sender = sender.clone();
        run(&pool, Some(Uuid::from_u128(class)), move || sender.send(()).unwrap());
    }
    (3..30).for_each(|_| receiver.recv_timeout(TEST_TIMEOUT).unwrap());
    assert!(pool.shared.lock().threads <= 8);
    drop((gates, others));
}

#[test]
fn classes_take_turns() {
    let pool = pool(1, 1000, 1000);
    let gates = hang(&pool, OTHER, 1, 1);
    let (sender, receiver) = mpsc::channel();
    for (class, name) in [(ONE, "one"), (ONE, "one"), (ONE, "one"), (OTHER, "other")] {
        let sender = sender.clone();
        run(&pool, class, move || sender.send(name).unwrap());
    }
    drop(gates);
    let order: Vec<&str> = (0..4).map(|_| receiver.recv_timeout(TEST_TIMEOUT).unwrap()).collect();
    assert_eq!(order, ["one", "other", "one", "one"]);
}

#[test]
fn a_panic_does_not_cost_the_thread() {
    let pool = pool(1, 10, 1000);
    run(&pool, ONE, || panic!("on purpose"));
    let (sender, receiver) = mpsc::channel();
    run(&pool, ONE, move || sender.send(()).unwrap());
    receiver.recv_timeout(TEST_TIMEOUT).unwrap();
}

#[test]
fn a_pool_that_is_dropped_still_does_what_it_took() {
    let (sender, receiver) = mpsc::channel();
    let pool = pool(1, 20, 1000);
    for _ in 0..5 {
        let sender = sender.clone();
        run(&pool, ONE, move || sender.send(()).unwrap());
    }
    drop(pool);
    drop(sender);
    assert_eq!(receiver.iter().count(), 5);
}

#[test]
fn a_class_holds_no_more_calls_and_bytes_than_are_free() {
    let pool = pool(1, 8, 100);
    let mut held: Vec<Permit> = std::iter::from_fn(|| pool.try_admit(ONE, 1)).collect();
    assert_eq!(held.len(), 4);
    held.extend(std::iter::from_fn(|| pool.try_admit(OTHER, 1)));
    assert_eq!(held.len(), 6);
    held.clear();
    let first = pool.try_admit(ONE, 40).unwrap();
    assert!(pool.try_admit(ONE, 40).is_none());
    let second = pool.try_admit(OTHER, 40).unwrap();
    assert!(pool.try_admit(None, 40).is_none());
    drop((first, second));
    assert!(pool.try_admit(ONE, 1_000_000).is_some());
    assert!(pool.shared.lock().classes.is_empty());
}

#[tokio::test]
async fn one_connection_holds_a_bounded_part_of_a_class() {
    let pool = pool(1, 1 << 20, 1 << 20);
    let mut held = Vec::new();
    for _ in 0..PER_CONNECTION {
        held.push(pool.admit(ONE, 1, 1).await.unwrap());
    }
    let full = timeout(Duration::from_millis(50), pool.admit(ONE, 1, 1)).await;
    assert!(full.is_err());
    assert!(pool.admit(ONE, 2, 1).await.is_some());
    assert!(pool.admit(OTHER, 1, 1).await.is_some());
}

#[tokio::test]
async fn who_waits_gets_the_permit_that_comes_back() {
    let pool = Arc::new(pool(1, 1, 100));
    let permit = pool.try_admit(ONE, 1).unwrap();
    let waiting = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.admit(ONE, 1, 1).await.is_some() }
    });
    tokio::task::yield_now().await;
    drop(permit);
    assert!(waiting.await.unwrap());
}

#[tokio::test]
async fn nobody_waits_for_a_class_that_stands_still() {
    let clock = Arc::new(FakeClock::new());
    let bounds = Bounds { threads: 1, calls: 1, bytes: 100 };
    let pool = Pool::new(bounds, Arc::clone(&clock) as Arc<dyn Clock>);
    let _held = pool.try_admit(ONE, 1).unwrap();
    clock.pass(STALLED);
    let refused = timeout(Duration::from_millis(50), pool.admit(ONE, 1, 1)).await;
    assert!(refused.unwrap().is_none());
}
