//! Any bytes may come.

use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| Bench::new(MemFs::new().file("/motd", 0o644, b"hello").dir("/dir", 0o755)))
}

/// Answers, and never with more than a READ may take.
fn answered(procedure: u32, args: &[u8]) {
    let (outcome, results) = bench().client.call(&bench().nfs, VERSION, procedure, args);
    assert!(results.len() <= (1 << 20) + 1024);
    assert!(results.capacity() <= 4 << 20);
    match outcome {
        Outcome::Success => assert!(results.len().is_multiple_of(4)),
        Outcome::GarbageArgs | Outcome::ProcUnavail => assert!(results.is_empty()),
        Outcome::SystemErr => panic!("{outcome:?}"),
    }
}

proptest! {
    #[test]
    fn any_arguments_of_any_procedure_are_answered(
        procedure in 0_u32..24,
        args in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        answered(procedure, &args);
    }

    #[test]
    fn any_arguments_behind_a_good_handle_are_answered(
        procedure in 0_u32..24,
        is_dir in any::<bool>(),
        args in proptest::collection::vec(any::<u32>(), 0..60),
        spread in 0_u32..32,
    ) {
        let handle = if is_dir { bench().root() } else { bench().at("/motd") };
        let mut bytes = fh(&handle).to_bytes();
        // Small numbers reach further into a procedure than large ones.
        bytes.extend(args.iter().flat_map(|word| (word >> spread).to_be_bytes()));
        answered(procedure, &bytes);
    }
}
