//! What tells a process of this host from a later one that has its number.

/// When a process was started, in words that no other of the same number has: which run of the host it is, and how
/// long after the start of the host the process began, in units of the system. No clock that is set and no time
/// zone changes them.
pub(crate) fn words(boot: &str, since: i64) -> String {
    format!("{boot} {since}")
}

/// Whether text is such words. Earlier versions wrote the local time on FreeBSD, of which nothing can be told.
pub(crate) fn tells(text: &str) -> bool {
    let mut words = text.split(' ');
    let (boot, since) = (words.next(), words.next().and_then(|word| word.parse::<i64>().ok()));
    boot.is_some_and(|boot| !boot.is_empty()) && since.is_some() && words.next().is_none()
}

/// A time of the clock, in seconds and microseconds since 1970.
#[cfg(any(test, target_os = "freebsd"))]
pub(crate) type Time = (i64, i64);

/// How many microseconds after the start of the host a process began, by times that the kernel gave together: it adds
/// the time of the host's start, which changes whenever the clock is set, to what it has noted (sys/kern/kern_proc.c,
/// `fill_kinfo_proc_only`).
#[cfg(any(test, target_os = "freebsd"))]
pub(crate) const fn since(host: Time, process: Time) -> i64 {
    let seconds = process.0.saturating_sub(host.0).saturating_mul(1_000_000);
    seconds.saturating_add(process.1).saturating_sub(host.1)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_clock_that_is_set_does_not_change_what_tells_a_process() {
        let (host, process) = ((1_700_000_000, 900_000), (1_700_000_012, 100_000));
        assert_eq!(since(host, process), 11_200_000);
        let set = |(seconds, micros): Time| (seconds - 7_200, micros);
        assert_eq!(since(set(host), set(process)), 11_200_000);
    }

    #[test]
    fn only_words_of_this_version_tell_a_process() {
        let known = words("4c8609698ad1a11c", 11_200_000);
        assert!(tells(&known));
        for text in ["", " 7", "4c86", "4c86 x", "4c86 7 8", "Mon Nov 23 03:57:29 2026"] {
            assert!(!tells(text), "{text}");
        }
    }
}
